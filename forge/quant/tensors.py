"""Whole tensors of a GGUF type: file bytes to planes and back, to dense values, and random ones.

`raw` is the file's bytes of a tensor, uint8 of any shape with whole rows; everything runs on the device it is on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from forge.errors import FileFormatError, UnsupportedError
from forge.graph.types import DType, TensorType
from forge.quant.format import Fields, QuantFormat
from forge.quant.packed import ROWS, Packed
from forge.quant.registry import format_of
from forge.torch_types import torch_type

CHUNK = 1 << 19  # weights dequantized at a time: their f32 values stay in the cores' L2 caches


def rows_of(type: TensorType, raw: Tensor) -> Tensor:
    """`raw` as uint8 [rows,row_bytes]. Raises FileFormatError if its size is not that of `type`."""
    flat = raw.reshape(-1).view(torch.uint8)
    if flat.numel() != type.nbytes:
        raise FileFormatError(f"a tensor of type {type} has {type.nbytes} bytes; {flat.numel()} are given")
    width = type.concrete()[-1] if type.rank else 1
    return flat.reshape(-1, type.dtype.size(width)) if flat.numel() else flat.reshape(0, type.dtype.size(width))


def pack(type: TensorType, raw: Tensor) -> Packed:
    """The planes of a tensor of a block type. Raises FileFormatError if `raw` has another size."""
    form = format_of(type.dtype)
    if form.split is None:
        raise UnsupportedError(f"{type} has no blocks to pack", remedy="use to_dense, or view the bytes")
    shapes = form.plane_types(type.concrete())
    planes = form.planes(rows_of(type, raw))
    shaped = {n: planes[n].reshape(t.concrete()) for n, t in shapes.items()}
    return Packed(type, shaped, table=table_of(form, raw.device))


def table_of(form: QuantFormat, device: Any) -> Tensor | None:
    """The numbers that a format's codes stand for, as kernels read them; None where it has no table."""
    return torch.tensor(form.table, dtype=torch.int32, device=device) if form.table else None


def quantize(x: Tensor, dtype: DType) -> Packed:
    """x [T,D] as activations of the type a8 or a16; D must be a multiple of 32."""
    form = format_of(dtype)
    if form.quantize is None:
        raise UnsupportedError(f"nothing quantizes to {dtype}", remedy="use a8 or a16")
    return Packed(TensorType(tuple(x.shape), dtype), form.quantize(x))


def unpack(packed: Packed) -> Tensor:
    """The file bytes uint8 [rows,row_bytes] of a packed tensor: the inverse of `pack`."""
    return format_of(packed.dtype).raw(_flat(packed))


def dense(operand: Packed | Tensor) -> Tensor:
    """The exact values in f32, on the operand's device: of a block type, of quantized activations, or of a tensor."""
    return operand.to(torch.float32) if isinstance(operand, Tensor) else dense_as(operand, torch.float32)


def dense_as(packed: Packed, dtype: torch.dtype) -> Tensor:
    """The values of a packed tensor, each rounded once to `dtype`."""
    form = format_of(packed.dtype)
    planes = _flat(packed)
    rows, width = planes["q"].shape[0], packed.shape[-1]
    out = torch.empty((rows, width), dtype=dtype, device=packed.device)
    step = max(1, CHUNK // max(1, width))
    for start in range(0, rows, step):
        part = {n: p[start : start + step] for n, p in planes.items()}
        _write(out[start : start + step], form, form.taken_apart(part))
    return out.reshape(packed.shape)


def to_dense(type: TensorType, raw: Tensor, dtype: torch.dtype) -> Tensor:
    """The values of file bytes, each rounded once to `dtype`; made in small chunks, in no more memory than theirs."""
    form = format_of(type.dtype)
    rows = rows_of(type, raw)
    if form.plain:
        return rows.contiguous().view(torch_type(form.name)).to(dtype).reshape(type.concrete())
    assert form.split is not None
    blocks = rows.reshape(-1, type.dtype.nbytes)
    out = torch.empty((blocks.shape[0], type.dtype.block), dtype=dtype, device=raw.device)
    step = CHUNK // type.dtype.block
    for start in range(0, blocks.shape[0], step):
        _write(out[start : start + step], form, form.split(blocks[start : start + step]))
    return out.reshape(type.concrete())


def random_blocks(type: TensorType, generator: torch.Generator, rms: float = 0.05) -> Tensor:
    """Valid file bytes uint8 [rows,row_bytes] of random values near `rms`, a quarter of the scales negative.

    Made on the generator's device. Codes and group scales are uniform; fp16 scales are finite and never zero.
    """
    form = format_of(type.dtype)
    device, count = generator.device, type.numel // type.dtype.block
    rows = type.concrete()[:-1]
    if form.plain:
        values = torch.randn(type.concrete(), generator=generator, device=device) * rms
        return values.to(torch_type(form.name)).view(torch.uint8)
    if form.random is not None:
        return form.random(generator, count, rms).reshape(*rows, -1)
    blocks = torch.randint(0, 256, (count, type.dtype.nbytes), generator=generator, device=device, dtype=torch.uint8)
    size = torch.rand((count, 1), generator=generator, device=device) + 0.5
    negative = torch.rand((count, 1), generator=generator, device=device) < 0.25
    d = torch.where(negative, -size, size) * rms
    for place, factor in form.scales_at.items():
        blocks[:, place : place + 2] = (d * factor).to(torch.float16).view(torch.uint8)
    return blocks.reshape(*rows, -1)


def _write(out: Tensor, form: QuantFormat, fields: Fields) -> None:
    out.copy_(form.values(fields).reshape(out.shape))


def _flat(packed: Packed) -> dict[str, Tensor]:
    """The planes with all axes but the last as one. Raises UnsupportedError for planes in another layout."""
    packed.require(ROWS)
    return {n: p.reshape(-1, p.shape[-1]) for n, p in packed.planes.items()}
