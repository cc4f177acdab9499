"""A random instance of an architecture: what its tests run, where no file is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from forge.graph.types import TensorType

if TYPE_CHECKING:
    import numpy as np
    import torch


class RandomWeights:
    """Random values of the given tensors. Implements `forge.lower.weights.Source`.

    Matrices and biases are about 0 with the given RMS; other vectors, weights of norms for one, are about 1 with it.
    """

    def __init__(self, tensors: Mapping[str, TensorType], *, rms: float = 0.2, seed: int = 1) -> None:
        import torch

        from forge.quant import random_blocks

        generator = torch.Generator().manual_seed(seed)
        self._raw = {name: random_blocks(type, generator, rms=rms) for name, type in tensors.items()}
        for name, type in tensors.items():
            if type.rank == 1 and not name.endswith(".bias"):
                self._raw[name].view(torch.float32).add_(1)
        self._types = dict(tensors)

    def raw(self, name: str) -> torch.Tensor:
        type = self._types[name]
        return self._raw[name].view(-1, type.dtype.size(type.concrete()[-1]))

    def read(self, name: str, start: int, out: np.ndarray) -> None:
        out[:] = self._raw[name].view(-1)[start : start + out.nbytes].numpy()

    def type_of(self, name: str) -> TensorType:
        return self._types[name]
