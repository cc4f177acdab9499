"""A tile of weights of any type, dequantized in registers: what every consumer of weights but the integer GEMV loads.

The kernels take the format's constants and device functions as constexpr (`constants`), and the planes' pointers in
the order q, h, s, d (`pointers`). For a plain type (GROUP 1) q is the tensor itself and the others are never read.
"""

from __future__ import annotations

from typing import Any

from forge.graph.types import DTYPES
from forge.kernels.language import jit, tl
from forge.quant import QuantFormat, decode, format_of
from forge.quant.packed import Packed

# Quantized activations are decoded like a weight: int8 codes and an f32 scale a group of 32.
ACTIVATION = QuantFormat("a8", group=32, d_type="f32", codes=decode.codes_8, scales=decode.scale_f32)
PLAIN = {"torch.float32": "f32", "torch.float16": "f16", "torch.bfloat16": "bf16"}


def form_of(operand: Any) -> QuantFormat:
    """The format that decodes an operand: a `Packed` (quantized activations too) or a floating-point tensor."""
    if not isinstance(operand, Packed):
        return format_of(DTYPES[PLAIN[str(operand.dtype)]])
    return ACTIVATION if operand.dtype.name == ACTIVATION.name else format_of(operand.dtype)


def constants(form: QuantFormat, prefix: str = "") -> dict[str, Any]:
    """The constexprs that `load_tile` takes, as keyword arguments of a launch."""
    values = {
        "GROUP": form.group, "HALVES": form.halves, "HIGH": form.high > 0, "MINIMUM": form.has_min,
        "CODES": form.codes, "SCALES": form.scales,
    }  # fmt: skip
    return {prefix + n: v for n, v in values.items()}


def pointers(operand: Any) -> tuple[Any, ...]:
    """q, h, s, d of a packed operand; a dense tensor four times."""
    return operand.pointers() if isinstance(operand, Packed) else (operand,) * 4


def row_stride(operand: Any) -> int:
    """Elements from one row to the next."""
    return int(operand.shape[-1] if isinstance(operand, Packed) else operand.stride(0))


@jit
def load_tile(
    q_ptr, h_ptr, s_ptr, d_ptr, row, row_mask, k0, K, stride,
    ROWS: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr, HALVES: tl.constexpr, HIGH: tl.constexpr,
    MINIMUM: tl.constexpr, CODES: tl.constexpr, SCALES: tl.constexpr,
):  # fmt: skip
    """f32 [ROWS,BLOCK_K] of rows `row` (int64 [ROWS]) at columns k0 and up of a tensor [*,K]; zero where masked.

    k0 and BLOCK_K must be multiples of 32 for a block type.
    """
    if GROUP == 1:
        k = k0 + tl.arange(0, BLOCK_K)
        mask = row_mask[:, None] & (k < K)[None, :]
        tile = tl.load(q_ptr + row[:, None] * stride + k[None, :], mask, 0.0).to(tl.float32)
    else:
        WORDS: tl.constexpr = 8 // HALVES
        RUNS: tl.constexpr = BLOCK_K // 32
        PARTS: tl.constexpr = 32 // GROUP  # groups a run: where there are two, each half is one
        run = k0 // 32 + tl.arange(0, RUNS)
        mask = row_mask[:, None] & (run < K // 32)[None, :]
        at = row[:, None] * (K // 32) + run[None, :]
        word = tl.arange(0, WORDS)
        q = tl.load(q_ptr + (at * WORDS)[:, :, None] + word[None, None, :], mask[:, :, None], 0)
        group = (at * PARTS)[:, :, None] + tl.arange(0, PARTS)[None, None, :]
        scale, minimum = SCALES(s_ptr, d_ptr, group, mask[:, :, None])
        h = group
        if HIGH:
            h = tl.load(h_ptr + group, mask[:, :, None], 0)
        half = tl.arange(0, HALVES)[None, None, :, None]
        codes = CODES(q[:, :, None, :], h[:, :, :, None], word[None, None, None, :], half)
        left = (24 - 8 * tl.arange(0, 4))[None, None, None, None, :]
        values = ((codes[:, :, :, :, None] << left) >> 24).to(tl.float32)
        values *= scale[:, :, :, None, None]
        if MINIMUM:
            values -= minimum[:, :, :, None, None]
        tile = tl.reshape(values, [ROWS, BLOCK_K])
    return tile
