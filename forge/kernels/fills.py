"""How the operands of a `Case` are filled: functions `(generator, type) -> tensor`, all from a seeded generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forge.torch_types import torch_type

if TYPE_CHECKING:
    import torch

    from forge.graph.types import TensorType

Fill = Callable[["torch.Generator", "TensorType"], Any]


def normal(generator: torch.Generator, type: TensorType) -> torch.Tensor:
    """Standard normal values."""
    import torch

    return torch.randn(type.concrete(), generator=generator).to(torch_type(type.dtype.name))


def scaled(factor: float) -> Fill:
    """Normal values times `factor`: 1e-20 for tiny ones, 1e4 for huge ones."""

    def fill(generator: torch.Generator, type: TensorType) -> torch.Tensor:
        import torch

        values = torch.randn(type.concrete(), generator=generator) * factor
        return values.to(torch_type(type.dtype.name))

    return fill


def zero_row(generator: torch.Generator, type: TensorType) -> torch.Tensor:
    """Normal values, but the first row is all zeros."""
    values = normal(generator, type)
    values[0] = 0
    return values


def pages(generator: torch.Generator, type: TensorType) -> torch.Tensor:
    """Pages of keys and values that hold normal values, as codes where the type has these."""
    import torch

    from forge.quant import cells

    if not type.dtype.codes:
        return normal(generator, type)
    kv = torch.empty(type.concrete(), dtype=torch_type(type.dtype.name))
    numbers, scales = cells.parts(kv)
    assert scales is not None
    for codes, scale in zip(numbers, scales, strict=True):
        made = cells.encode(torch.randn(codes.shape, generator=generator), type.dtype)
        codes.copy_(made[0])
        scale.copy_(made[1])
    return kv


def integers(low: int, high: int) -> Fill:
    """Uniform integers in [low, high)."""

    def fill(generator: torch.Generator, type: TensorType) -> torch.Tensor:
        import torch

        dt = torch_type(type.dtype.name)
        return torch.randint(low, high, type.concrete(), generator=generator).to(dt)

    return fill


def constant(values: Any) -> Fill:
    """Exactly these values."""

    def fill(generator: torch.Generator, type: TensorType) -> torch.Tensor:
        import torch

        return torch.tensor(values, dtype=torch_type(type.dtype.name)).reshape(type.concrete())

    return fill
