"""Floating-point arithmetic beyond NumPy's, on arrays of float16, float32 or float64.

Denormals are kept. NumPy's sums, products, quotients and roots are correctly rounded in all three formats (float16 is
computed in float32, whose 24 bits are enough for 11: Figueroa, "When is double rounding innocuous?", 1995); `fma` is
made correctly rounded here. NaNs come out quiet; their payload is not promised.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import inf, isfinite
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_LAYOUT = {  # unsigned type of the same size, bits of mantissa, largest exponent field
    np.dtype(np.float16): (np.uint16, 10, 31),
    np.dtype(np.float32): (np.uint32, 23, 255),
    np.dtype(np.float64): (np.uint64, 52, 2047),
}
_HALF_ULP_F32 = np.uint64(0x10000000)  # what a float64 keeps below a float32's last bit, when it lies midway
_BELOW_F32 = np.uint64(0x1FFFFFFF)
_NORMAL_F32 = np.float32(2.0**-126)


def raw(x: Array) -> Array:
    """The bits of `x` as unsigned integers of its size."""
    return np.asarray(x).view(_LAYOUT[np.asarray(x).dtype][0])


def fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c with one rounding, to nearest even."""
    if a.dtype == np.float32:
        total = np.multiply(a, b, dtype=np.float64)  # exact: 48 bits
        wide = total + c
        result = wide.astype(np.float32)
        # The second rounding can only err where the first one landed on a tie, or where float32 has fewer bits left.
        tie = np.any((wide.view(np.uint64) & _BELOW_F32) == _HALF_ULP_F32)
        small = np.abs(result) < _NORMAL_F32
        if tie or (small.any() and np.any(small & (result != wide))):
            result = to_odd(*two_sum(total, c.astype(np.float64))).astype(np.float32)
        return result
    if a.dtype == np.float16:
        product = np.multiply(a, b, dtype=np.float64)  # exact: 22 bits
        addend = c.astype(np.float64)
        wide = product + addend
        part = wide - product
        if not (np.all(part == addend) and np.all(wide - part == product)):  # the sum was not exact
            wide = to_odd(*two_sum(product, addend))
        narrow: Array = wide.astype(np.float16)
        return narrow
    return _fma_f64(a, b, c)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """s + e = a + b exactly, s the rounded sum (Knuth); e is 0 where s is not finite."""
    s = a + b
    v = s - a
    e = (a - (s - v)) + (b - v)
    return s, np.where(np.isfinite(s), e, 0.0)


def to_odd(s: Array, e: Array) -> Array:
    """s + e rounded to odd, so that a later rounding to fewer bits is the only one (Boldo and Melquiond, 2008)."""
    bits = s.view(np.int64)
    even = (bits & 1 == 0) & (e != 0)
    away = (e > 0) == (s > 0)  # the exact sum is larger in magnitude than s
    return np.where(even, bits + np.where(away, 1, -1), bits).view(np.float64)


def _fma_f64(a: Array, b: Array, c: Array) -> Array:
    """Dekker's product and a sum rounded to odd, where no part can over- or underflow; exact rationals elsewhere."""
    a, b, c = np.broadcast_arrays(a, b, c)
    simple = a * b + c
    safe = np.ones(a.shape, bool)
    exact = np.zeros(a.shape, bool)  # what `simple` gives is right: an operand is zero, or not finite
    for x in (a, b, c):
        size = np.abs(x)
        safe &= (size > 2.0**-400) & (size < 2.0**400)
        exact |= ~np.isfinite(x)
    exact |= (a == 0) | (b == 0)
    simple = np.where(np.isinf(c) & np.isfinite(a) & np.isfinite(b), c, simple)  # a * b alone may overflow
    high, low = _two_product(a, b)
    s, e = two_sum(c, low)
    top, rest = two_sum(high, s)
    result = top + to_odd(*two_sum(rest, e))
    result = np.where(exact, simple, result)
    rare = ~(safe | exact)
    if rare.any():
        result[rare] = [_fma_exactly(x, y, z) for x, y, z in zip(a[rare], b[rare], c[rare], strict=True)]
    return result


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """p + e = a * b exactly (Dekker, with Veltkamp's splitting)."""
    p = a * b
    t = a * 134217729.0  # 2^27 + 1
    a_high = t - (t - a)
    a_low = a - a_high
    t = b * 134217729.0
    b_high = t - (t - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _fma_exactly(a: float, b: float, c: float, scale: int = 0) -> float:
    """(a * b + c) * 2^scale of finite numbers, rounded once: division of Python's integers is correctly rounded."""
    total = (Fraction(a) * Fraction(b) + Fraction(c)) * Fraction(2) ** scale
    if total == 0:
        return float(a * b + c) if a * b == 0 else 0.0
    try:
        return total.numerator / total.denominator
    except OverflowError:
        return inf if total > 0 else -inf


def fma_scaled(a: Array, b: Array, c: Array, scale: Array) -> Array:
    """(a * b + c) * 2^scale with one rounding; `scale` is an integer array, even where the result is denormal."""
    if a.dtype == np.float32:
        wide = to_odd(*two_sum(np.multiply(a, b, dtype=np.float64), c.astype(np.float64)))
        rounded: Array = np.ldexp(wide, scale).astype(np.float32)
        return rounded
    a, b, c, scale = np.broadcast_arrays(a, b, c, scale)
    result = np.ldexp(fma(a, b, c), scale)
    rare = (scale != 0) & (np.abs(result) < 2.0**-1021)
    for index in zip(*np.nonzero(rare), strict=True):
        operands = float(a[index]), float(b[index]), float(c[index])
        if all(isfinite(x) for x in operands):
            result[index] = _fma_exactly(*operands, scale=int(scale[index]))
    scaled: Array = result
    return scaled


def is_nan(x: Array) -> Array:
    nan: Array = np.isnan(x)
    return nan


def is_quiet_nan(x: Array) -> Array:
    unsigned, mantissa, _ = _LAYOUT[x.dtype]
    quiet: Array = np.isnan(x) & (raw(x) & unsigned(1 << (mantissa - 1)) != 0)
    return quiet


def is_signal_nan(x: Array) -> Array:
    unsigned, mantissa, _ = _LAYOUT[x.dtype]
    signalling: Array = np.isnan(x) & (raw(x) & unsigned(1 << (mantissa - 1)) == 0)
    return signalling


def to_quiet_nan(x: Array) -> Array:
    unsigned, mantissa, _ = _LAYOUT[x.dtype]
    quiet: Array = (raw(x) | unsigned(1 << (mantissa - 1))).view(x.dtype)
    return quiet


def sign(x: Array) -> Array:
    """True where the sign bit is set, of zero and NaN too."""
    negative: Array = np.signbit(x)
    return negative


def exponent(x: Array) -> Array:
    """The biased exponent field, int32: 0 for zero and denormals, the largest value for infinity and NaN."""
    unsigned, mantissa, largest = _LAYOUT[x.dtype]
    field: Array = ((raw(x) >> unsigned(mantissa)) & unsigned(largest)).astype(np.int32)
    return field


def select(smaller: bool, a: Array, b: Array) -> Array:
    """The smaller or larger of numbers of which none is NaN, with -0 < +0."""
    both = np.minimum(a, b) if smaller else np.maximum(a, b)
    if np.any(both == 0):
        either = raw(a) | raw(b) if smaller else raw(a) & raw(b)
        both = np.where(a == b, either.view(a.dtype), both)
    return both


def _ieee(smaller: bool) -> Callable[[Array, Array], Array]:
    """minNum/maxNum of IEEE 754-2008: a signalling NaN wins, made quiet; a quiet one loses against a number."""

    def chosen(a: Array, b: Array) -> Array:
        result = select(smaller, a, b)
        if np.isnan(result).any():
            result = np.where(np.isnan(b), a, np.where(np.isnan(a), b, result))
            result = np.where(is_signal_nan(a), to_quiet_nan(a), np.where(is_signal_nan(b), to_quiet_nan(b), result))
        return result

    return chosen


def _number(smaller: bool) -> Callable[[Array, Array], Array]:
    """minimumNumber/maximumNumber of IEEE 754-2019: a number wins over any NaN."""

    def chosen(a: Array, b: Array) -> Array:
        result = select(smaller, a, b)
        if np.isnan(result).any():
            result = np.where(np.isnan(a), np.where(np.isnan(b), to_quiet_nan(a), b), np.where(np.isnan(b), a, result))
        return result

    return chosen


def _propagating(smaller: bool) -> Callable[[Array, Array], Array]:
    """minimum/maximum of IEEE 754-2019: any NaN wins, made quiet."""

    def chosen(a: Array, b: Array) -> Array:
        result = select(smaller, a, b)
        if np.isnan(result).any():
            result = np.where(np.isnan(a), to_quiet_nan(a), np.where(np.isnan(b), to_quiet_nan(b), result))
        return result

    return chosen


min_ieee, max_ieee = _ieee(True), _ieee(False)
min_number, max_number = _number(True), _number(False)
minimum, maximum = _propagating(True), _propagating(False)


def median(a: Array, b: Array, c: Array) -> Array:
    """The middle one of three numbers; with a NaN among them, the smallest by `min_ieee`."""
    result = select(False, select(True, a, b), select(True, select(False, a, b), c))
    if np.any(result == 0):  # then the pseudocode's order of comparisons, which takes -0 for +0, gives the sign
        largest = select(False, select(False, a, b), c)
        rest = np.where(largest == b, select(False, a, c), select(False, a, b))
        result = np.where(largest == a, select(False, b, c), rest)
    nan = np.isnan(a) | np.isnan(b) | np.isnan(c)
    return np.where(nan, min_ieee(min_ieee(a, b), c), result) if nan.any() else result


def flush(x: Array) -> Array:
    """float32 with denormals replaced by zeros of their sign."""
    return np.where(np.abs(x) < _NORMAL_F32, np.copysign(np.float32(0), x), x)


def sign_extended(x: Array, bits: Array) -> Array:
    """The low `bits` bits of a signed integer array, read as a signed number; all of it from its width on, 0 for 0."""
    width = 8 * x.dtype.itemsize
    count = np.clip(bits.astype(x.dtype), 0, width)
    shift = width - count
    extended: Array = np.where(count == 0, x.dtype.type(0), (x << shift) >> shift)
    return extended
