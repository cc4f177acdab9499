"""Memory for results that shows what a kernel did not write, and what it wrote beside them."""

from __future__ import annotations

from typing import Any

import torch

from forge.errors import NumericsError
from forge.graph.types import TensorType
from forge.lower.values import activation_planes, empty, torch_dtype
from forge.quant.packed import Packed

GUARD = 64  # elements before and after each result, which no kernel may touch


class Guarded:
    """Allocates results poisoned, so that what is not written is seen, between guards, so that too much is too."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.guards: list[torch.Tensor] = []

    def empty(self, type: TensorType) -> Any:
        if planes := activation_planes(type):
            return Packed(type, {name: self.empty(plane) for name, plane in planes.items()})
        if self.device == "meta":
            return empty(type, "meta")
        dt = torch_dtype(type)
        memory = torch.full((type.numel + 2 * GUARD,), float("nan") if dt.is_floating_point else 101, dtype=dt)
        memory = memory.to(self.device)
        self.guards += [memory[:GUARD], memory[GUARD + type.numel :]]
        return memory[GUARD : GUARD + type.numel].view(type.concrete())

    def check(self, label: str) -> None:
        """Raise NumericsError if a guard was written."""
        for guard in self.guards:
            untouched = guard.isnan() if guard.dtype.is_floating_point else guard == torch.full_like(guard, 101)
            if not bool(untouched.all()):
                raise NumericsError(f"{label}: writes outside its results")
