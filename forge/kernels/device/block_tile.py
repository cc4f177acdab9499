"""A tile of weights of any type, dequantized in registers: what every consumer of weights but the integer GEMV loads.

The kernels take the format's constants and device functions as constexpr (`constants`), and the planes' pointers in
the order q, h, s, d (`pointers`). For a plain type (GROUP 1) q is the tensor itself and the others are never read.
"""

from __future__ import annotations

from typing import Any

from forge.graph.types import DTYPES
from forge.language import jit, tl
from forge.quant import QuantFormat, decode, format_of
from forge.quant.packed import Packed

# Quantized activations are decoded like a weight: int8 codes and an f32 scale a group of 32. The second codes of a16
# are a tile of their own, with h in the place of q, in 256ths (`has_residual`).
ACTIVATION = QuantFormat("a8", group=32, d_type="f32", codes=decode.codes_8, scales=decode.scale_f32)
PLAIN = {"torch.float32": "f32", "torch.float16": "f16", "torch.bfloat16": "bf16"}


def form_of(operand: Any) -> QuantFormat:
    """The format that decodes an operand: a `Packed` (quantized activations too) or a floating-point tensor."""
    if not isinstance(operand, Packed):
        return format_of(DTYPES[PLAIN[str(operand.dtype)]])
    return ACTIVATION if operand.dtype.activation else format_of(operand.dtype)


def has_residual(operand: Any) -> bool:
    """Whether an operand is activations of two codes a value."""
    return isinstance(operand, Packed) and operand.dtype.name == "a16"


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
def bytes_of(codes, scale, minimum, MINIMUM: tl.constexpr):
    """f32 [*,4W] of int32 words [*,W] of four int8 codes: scale * code - minimum, in the order of the bytes.

    Joins, unlike a broadcast over the bytes, leave the four values of a word in the lane that holds it.
    """
    first = ((codes << 24) >> 24).to(tl.float32) * scale
    second = ((codes << 16) >> 24).to(tl.float32) * scale
    third = ((codes << 8) >> 24).to(tl.float32) * scale
    fourth = (codes >> 24).to(tl.float32) * scale
    if MINIMUM:
        first -= minimum
        second -= minimum
        third -= minimum
        fourth -= minimum
    quads = tl.join(tl.join(first, third), tl.join(second, fourth))
    return tl.reshape(quads, [codes.shape[0], codes.shape[1] * 4])


@jit
def load_tile(
    q_ptr, h_ptr, s_ptr, d_ptr, first_row, rows, k0, K, stride,
    ROWS: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr, HALVES: tl.constexpr, HIGH: tl.constexpr,
    MINIMUM: tl.constexpr, CODES: tl.constexpr, SCALES: tl.constexpr,
):  # fmt: skip
    """f32 [ROWS,BLOCK_K] of rows `first_row` and up, columns k0 and up, of a tensor [rows,K]; zero beyond its ends.

    k0 and BLOCK_K must be multiples of 32 for a block type.
    """
    if GROUP == 1:
        row = first_row + tl.arange(0, ROWS)
        k = k0 + tl.arange(0, BLOCK_K)
        mask = (row < rows)[:, None] & (k < K)[None, :]
        tile = tl.load(q_ptr + row.to(tl.int64)[:, None] * stride + k[None, :], mask, 0.0).to(tl.float32)
    else:
        WORDS: tl.constexpr = 8 // HALVES
        RUNS: tl.constexpr = BLOCK_K // 32
        PARTS: tl.constexpr = 32 // GROUP  # groups a run: where there are two, each half is one
        # Planes are indexed flat, [ROWS*RUNS]: with one axis the compiler has but one order of lanes to choose.
        flat = tl.arange(0, ROWS * RUNS)
        row, run = first_row + flat // RUNS, k0 // 32 + flat % RUNS
        mask = (row < rows) & (run < K // 32)
        at = row.to(tl.int64) * (K // 32) + run
        word = tl.arange(0, WORDS)[None, :]
        q = tl.load(q_ptr + (at * WORDS)[:, None] + word, mask[:, None], 0)
        h = at
        if HIGH:
            h = tl.load(h_ptr + at * PARTS, mask, 0)
        scale, minimum = SCALES(s_ptr, d_ptr, at * PARTS, mask)
        tile = bytes_of(CODES(q, h[:, None], word, 0), scale[:, None], minimum[:, None], MINIMUM)
        if HALVES == 2:
            if PARTS == 2:
                if HIGH:
                    h = tl.load(h_ptr + at * PARTS + 1, mask, 0)
                scale, minimum = SCALES(s_ptr, d_ptr, at * PARTS + 1, mask)
            upper = bytes_of(CODES(q, h[:, None], word, 1), scale[:, None], minimum[:, None], MINIMUM)
            tile = tl.permute(tl.join(tile, upper), [0, 2, 1])
        tile = tl.reshape(tile, [ROWS, BLOCK_K])
    return tile
