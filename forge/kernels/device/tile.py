"""A tile of an operand of any type, dequantized in registers: what every consumer but the integer GEMV loads.

A body gets an operand as two parameters: a tuple of its planes, by name, and its format as one constexpr (`operand`).
A plain type's plane q is the tensor itself, and `stride` the elements from one of its rows to the next.
"""

from __future__ import annotations

from typing import Any

from forge.errors import UnsupportedError
from forge.graph.types import DTYPES
from forge.language import jit, tl
from forge.quant import QuantFormat, format_of
from forge.quant.packed import Packed, planes_of
from forge.torch_types import type_name


def operand(value: Any) -> tuple[Any, QuantFormat]:
    """The planes of a packed or floating-point tensor, as a kernel's argument, and the format that decodes them.

    Raises UnsupportedError for a type or a layout that these kernels do not read.
    """
    if isinstance(value, Packed):
        return value.operand(), format_of(value.dtype)
    name = type_name(value.dtype)
    if name is None or not DTYPES[name].floating:
        raise UnsupportedError(f"tensors of {value.dtype} hold no weights or activations")
    return planes_of("q", "stride")(value, value.stride(0)), format_of(DTYPES[name])


def element(name: str) -> Any:
    """Triton's type of the elements that are called f16, bf16 or f32: what a body rounds to on its way."""
    return {"f16": tl.float16, "bf16": tl.bfloat16, "f32": tl.float32}[name]


@jit
def load_words(w, W: tl.constexpr, at, mask):
    """int32 [runs,words]: the words of q of the runs `at`, counted over the whole tensor."""
    word = tl.arange(0, W.words)[None, :]
    return tl.load(w.q + (at * W.words)[:, None] + word, mask[:, None], 0)


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
def _field(w, W: tl.constexpr, q, at, mask, FIELD: tl.constexpr):
    """f32 [runs,4*words] of the weights in one field of the words of q."""
    PART: tl.constexpr = FIELD * W.parts // W.fields
    scale, minimum = W.scales(w, at, mask, PART)
    codes = W.codes(w, q, at, mask, FIELD)
    values = bytes_of(codes, scale[:, None], minimum[:, None], W.minimum)
    if W.residual:
        h = tl.load(w.h + (at * W.words)[:, None] + tl.arange(0, W.words)[None, :], mask[:, None], 0)
        values += bytes_of(h, scale[:, None] * (1.0 / 256.0), minimum[:, None], False)
    return values


@jit
def _fields(w, W: tl.constexpr, q, at, mask, FIRST: tl.constexpr, COUNT: tl.constexpr):
    """f32 [runs,COUNT*4*words] of COUNT fields, one after the other."""
    if COUNT == 1:
        values = _field(w, W, q, at, mask, FIRST)
    else:
        lower = _fields(w, W, q, at, mask, FIRST, COUNT // 2)
        upper = _fields(w, W, q, at, mask, FIRST + COUNT // 2, COUNT // 2)
        values = tl.permute(tl.join(lower, upper), [0, 2, 1])
        values = tl.reshape(values, [lower.shape[0], 2 * lower.shape[1]])
    return values


@jit
def load_tile(w, W: tl.constexpr, first_row, rows, k0, K, ROWS: tl.constexpr, BLOCK_K: tl.constexpr):
    """f32 [ROWS,BLOCK_K] of rows `first_row` and up, columns k0 and up, of a tensor [rows,K]; zero beyond its ends.

    k0 and BLOCK_K must be multiples of 32 for a quantized type.
    """
    if W.group == 1:
        row = first_row + tl.arange(0, ROWS)
        k = k0 + tl.arange(0, BLOCK_K)
        mask = (row < rows)[:, None] & (k < K)[None, :]
        tile = tl.load(w.q + row.to(tl.int64)[:, None] * w.stride + k[None, :], mask, 0.0).to(tl.float32)
    else:
        RUNS: tl.constexpr = BLOCK_K // 32
        # Planes are indexed flat, [ROWS*RUNS]: with one axis the compiler has but one order of lanes to choose.
        flat = tl.arange(0, ROWS * RUNS)
        row, run = first_row + flat // RUNS, k0 // 32 + flat % RUNS
        mask = (row < rows) & (run < K // 32)
        at = row.to(tl.int64) * (K // 32) + run
        values = _fields(w, W, load_words(w, W, at, mask), at, mask, 0, W.fields)
        tile = tl.reshape(values, [ROWS, BLOCK_K])
    return tile
