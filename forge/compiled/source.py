"""Weights from a GGUF file, as `forge.lower.weights` reads them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from forge.gguf import GGUFFile
from forge.graph.types import TensorType

if TYPE_CHECKING:
    import torch


class GGUFSource:
    """Weights from a GGUF file's memory map. Implements `forge.lower.weights.Source`."""

    def __init__(self, gguf: GGUFFile) -> None:
        self._gguf = gguf

    def raw(self, name: str) -> torch.Tensor:
        import torch

        found = self._gguf.tensors[name]
        rows = found.type.numel // found.type.concrete()[-1]
        with warnings.catch_warnings():  # torch warns that the map is read-only; nothing writes to it
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(found.data).view(rows, -1)

    def type_of(self, name: str) -> TensorType:
        return self._gguf.tensors[name].type
