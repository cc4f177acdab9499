"""Conversions between number formats, as the hardware does them: to nearest even, saturating, NaN to integer is 0."""

from __future__ import annotations

from functools import cache

import numpy as np

from forge.amdgcn.numbers.arithmetic import Array

_RANGES = {
    (kind, bits): (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind == "i" else (0, (1 << bits) - 1)
    for kind in "iu"
    for bits in (8, 16, 32)
}


def to_integer(x: Array, kind: str, bits: int) -> Array:
    """A float truncated towards zero and saturated: int32 or uint32 array within the range of `kind` and `bits`."""
    low, high = _RANGES[kind, bits]
    number = np.trunc(x.astype(np.float64))
    number = np.where(np.isnan(number), 0.0, np.clip(number, low, high))
    return number.astype(np.int64).astype(np.int32 if kind == "i" else np.uint32)


def to_norm(x: Array, kind: str) -> Array:
    """[-1, 1] or [0, 1] onto the range of 16 bits, rounded to nearest even and saturated; NaN is 0."""
    low, high = (-32767.0, 32767.0) if kind == "i" else (0.0, 65535.0)
    scaled = np.clip(np.rint(x.astype(np.float64) * high), low, high)
    scaled = np.where(np.isnan(scaled), 0.0, scaled)
    return scaled.astype(np.int64).astype(np.int32 if kind == "i" else np.uint32)


def saturated(x: Array, kind: str, bits: int) -> Array:
    """An integer array kept within the range of `kind` and `bits`."""
    low, high = _RANGES[kind, bits]
    return np.clip(x, low, high).astype(np.int32 if kind == "i" else np.uint32)


def to_bf16(x: Array) -> Array:
    """float32 whose values are bfloat16: rounded to nearest even; NaN stays NaN, quiet."""
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), (bits | np.uint32(0x400000)) & np.uint32(0xFFFF0000), rounded).view(np.float32)


def from_bf16(bits: Array) -> Array:
    return (bits << np.uint32(16)).view(np.float32)


def to_f16_towards_zero(x: Array) -> Array:
    """float32 -> float16 rounded towards zero: a finite value never becomes infinite."""
    nearest = x.astype(np.float16)
    over = np.abs(nearest.astype(np.float32)) > np.abs(x)
    bits = nearest.view(np.uint16)
    return (bits - (over & ~np.isnan(x)).astype(np.uint16)).view(np.float16)


@cache
def f8_values(kind: str, ocp: bool) -> Array:
    """The value of each of the 256 codes of "fp8" or "bf8", float32; not to be written.

    OCP ("Open Compute Project 8-bit floating point specification", 1.0): fp8 is E4M3 with bias 7 and NaN at S.1111.111,
    bf8 is E5M2 with bias 15 and IEEE's infinities and NaNs. The older form of gfx940 (FNUZ) has one more in the bias,
    no infinity, no negative zero, and its NaN at 0x80.
    """
    mantissa = 3 if kind == "fp8" else 2
    bias = (7 if kind == "fp8" else 15) + (0 if ocp else 1)
    codes = np.arange(256)
    fraction, field = codes & ((1 << mantissa) - 1), (codes & 127) >> mantissa
    size = np.where(
        field == 0,
        np.ldexp(fraction.astype(np.float64), 1 - bias - mantissa),
        np.ldexp(1.0 + fraction / (1 << mantissa), field - bias),
    )
    if not ocp:
        size[128] = np.nan
    elif kind == "fp8":
        size[[127, 255]] = np.nan
    else:
        size[[124, 252]] = np.inf
        size[[125, 126, 127, 253, 254, 255]] = np.nan
    values = np.where(codes < 128, size, -size).astype(np.float32)
    values.flags.writeable = False
    return values


def from_f8(bits: Array, kind: str, ocp: bool) -> Array:
    """The float32 value of 8-bit codes in the low byte of `bits`."""
    values: Array = f8_values(kind, ocp)[bits & np.uint32(255)]
    return values


def to_f8(x: Array, kind: str, ocp: bool, saturating: bool | Array) -> Array:
    """float32 -> 8-bit code in uint32, to nearest even; NaN stays NaN.

    What rounds beyond the largest finite value is that value when `saturating` (MODE.FP16_OVFL is set), else NaN,
    or infinity in OCP's bf8.
    """
    positive = f8_values(kind, ocp)[:128].astype(np.float64)
    finite = positive[np.isfinite(positive)]
    size = np.abs(x.astype(np.float64))
    upper = np.clip(np.searchsorted(finite, size), 1, len(finite) - 1)
    below, above = finite[upper - 1], finite[upper]
    odd = (upper - 1) & 1 == 1
    middle = (below + above) / 2
    code = np.where((size > middle) | ((size == middle) & odd), upper, upper - 1)
    limit = finite[-1] + (finite[-1] - finite[-2]) / 2
    past = size >= limit if len(finite) % 2 == 0 else size > limit  # a tie goes to the even code
    overflow = past & ~np.asarray(saturating, np.bool_)
    beyond, invalid = (0x7F, 0x7F) if kind == "fp8" else (0x7C, 0x7E)
    sign = np.where(np.signbit(x), 128, 0)
    if not ocp:
        code = np.where(overflow | np.isnan(x), 128, np.where(code == 0, 0, code | sign))
    else:
        code = np.where(np.isnan(x), invalid, np.where(overflow, beyond, code)) | sign
    return code.astype(np.uint32)


@cache
def f4_values() -> Array:
    """The value of each of the 16 codes of fp4 (E2M1 of the OCP's "Microscaling Formats", 1.0), float32."""
    size = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    values = np.concatenate([size, -size])
    values.flags.writeable = False
    return values


def to_f4(x: Array) -> Array:
    """float64 -> fp4 code in uint32, to nearest even; what is beyond 6, and NaN, is 6 of its sign."""
    size = np.abs(x)
    middles = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    code = np.searchsorted(middles, size)  # of the codes beside a middle, the lower one
    tie = (code < 7) & (size == middles[np.minimum(code, 6)])
    code = np.where(np.isnan(x), 7, code + (tie & (code & 1 == 1)))
    return (code | np.where(np.signbit(x), 8, 0)).astype(np.uint32)
