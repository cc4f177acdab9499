"""Seeded operands of an op's cases, and what the op's reference makes of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from forge.graph.op import Case, Op
from forge.graph.types import DTYPES, TensorType
from forge.kernels import fills
from forge.quant import dense, pack, quantize, random_blocks
from forge.quant.packed import Packed


def operands(op: Op, case: Case, device: str = "cpu") -> list[Any]:
    """Operands of a case on a device; where the case wants it, rows lie apart, which a copy to a device undoes."""
    values = seeded(op, case)
    if case.strided:
        values = [apart(v) for v in values]
    return [None if v is None else v.to(device) for v in values]


def seeded(op: Op, case: Case) -> list[Any]:
    """Operands of a case, the same ones each time; block-typed and quantized ones come as Packed planes."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{op.name} {case.name}".encode()))
    if case.make is not None:
        return list(case.make(generator))
    return [
        None if t is None else _fill(generator, t, case.fills.get(n, fills.normal))
        for n, t in zip(op.operands, case.types, strict=True)
    ]


def oracle(op: Op, values: Sequence[Any], attrs: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """The results of the op's reference on dense operands."""
    out = op.reference(*(dense(v) if isinstance(v, Packed) else v for v in values), **attrs)
    return out if isinstance(out, tuple) else (out,)


def apart(value: Any) -> Any:
    """The same values with rows further apart than they are wide."""
    if not isinstance(value, torch.Tensor) or value.dim() != 2:
        return value
    wide = torch.full((value.shape[0], value.shape[1] + 64), 77, dtype=value.dtype, device=value.device)
    wide[:, : value.shape[1]] = value
    return wide[:, : value.shape[1]]


def _fill(generator: torch.Generator, type: TensorType, fill: fills.Fill) -> Any:
    if type.dtype.activation:
        return quantize(fill(generator, TensorType(type.shape, DTYPES["f32"])), type.dtype)
    if type.dtype.quantized:
        return pack(type, random_blocks(type, generator))
    return fill(generator, type)
