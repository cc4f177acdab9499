"""Bits of matrix elements to numbers, and sums back to bits.

Floats become float64, which holds the product of two elements of every type up to f32 exactly. 8- and 4-bit integers
become float32: k <= 64 products of them stay below 2^24, so their sums are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from forge.amdgcn.matrix.ops import BITS
from forge.amdgcn.numbers.conversions import f8_values, from_bf16, to_bf16

Words = npt.NDArray[np.uint32]
Elements = npt.NDArray[np.unsignedinteger[Any]]
Numbers = npt.NDArray[np.floating[Any]]

_SMALLEST_NORMAL = {"f16": 2.0**-14, "bf16": 2.0**-126, "f32": 2.0**-126}
_F8 = {"fp8": ("fp8", True), "bf8": ("bf8", True), "fp8fnuz": ("fp8", False), "bf8fnuz": ("bf8", False)}  # OCP's?


def elements(words: Words, kind: str) -> Elements:
    """[regs, waves, lanes] dwords as [waves, slots * lanes * parts] elements of `kind`, as unsigned integers."""
    bits = BITS[kind]
    waves = words.shape[1]
    if bits == 64:
        return np.ascontiguousarray(join(words).transpose(1, 0, 2)).reshape(waves, -1)
    flat = np.ascontiguousarray(words.transpose(1, 0, 2)).reshape(waves, -1)
    if bits == 4:
        return (flat[:, :, None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15).astype(np.uint8).reshape(waves, -1)
    return flat.view(f"u{bits // 8}")


def join(words: Words) -> npt.NDArray[np.uint64]:
    """[2 r, ...] dwords, low first, as [r, ...] 64-bit words."""
    return words[0::2].astype(np.uint64) | (words[1::2].astype(np.uint64) << np.uint64(32))


def split(longs: npt.NDArray[np.uint64]) -> Words:
    """[r, ...] 64-bit words as [2 r, ...] dwords, low first."""
    pairs = np.stack([longs, longs >> np.uint64(32)], axis=1).astype(np.uint32)
    return pairs.reshape(-1, *longs.shape[1:])


def to_numbers(raw: Elements, kind: str, *, signed: bool = True, flush: bool = False) -> Numbers:
    """What the bits mean. xf32 is f32 rounded to 10 bits of fraction, to nearest even; `signed` is for iu8 and iu4."""
    if kind in _F8:
        return f8_values(*_F8[kind])[raw].astype(np.float64)
    if kind in ("i8", "iu8"):
        return raw.astype(np.int8).astype(np.float32) if signed else raw.astype(np.float32)
    if kind == "iu4":
        return ((raw ^ 8).astype(np.float32) - np.float32(8)) if signed else raw.astype(np.float32)
    if kind == "f64":
        return raw.view(np.float64)
    if kind == "f16":
        numbers = raw.view(np.float16).astype(np.float64)
    elif kind == "bf16":
        numbers = from_bf16(raw.astype(np.uint32)).astype(np.float64)
    else:
        numbers = (_to_xf32(raw) if kind == "xf32" else raw).view(np.float32).astype(np.float64)
    return flushed(numbers, kind) if flush else numbers


def from_sums(sums: npt.NDArray[np.float64], kind: str, *, flush: bool = False) -> Elements:
    """The sums rounded once to `kind` (f32, f16, bf16, f64), to nearest even, as unsigned integers."""
    if kind == "f64":
        return sums.view(np.uint64)
    if kind == "f16":
        return sums.astype(np.float16).view(np.uint16)
    if kind == "bf16":
        return _to_bf16(sums)
    return (flushed(sums.astype(np.float32), kind) if flush else sums.astype(np.float32)).view(np.uint32)


def flushed(numbers: Numbers, kind: str) -> Numbers:
    """Denormals of `kind` as zeros of their sign."""
    return np.where(np.abs(numbers) < _SMALLEST_NORMAL[kind], np.copysign(numbers.dtype.type(0), numbers), numbers)


def _to_xf32(raw: Elements) -> Elements:
    rounded = (raw + 0xFFF + (raw >> 13 & 1)) & np.uint32(0xFFFFE000)
    special = (raw >> 23 & 0xFF) == 0xFF
    return np.where(special, raw, rounded).astype(np.uint32)


def _to_bf16(sums: npt.NDArray[np.float64]) -> Elements:
    # By way of f32 rounded to odd, which keeps what the second rounding must know.
    near = sums.astype(np.float32)
    towards_zero = near.view(np.uint32) - (np.abs(near) > np.abs(sums))
    odd = (towards_zero | (near != sums)).view(np.float32)
    return (to_bf16(odd).view(np.uint32) >> 16).astype(np.uint16)
