"""Arithmetic without double rounding, which NumPy lacks: fused multiply-add, minimum and maximum of IEEE mode."""

from __future__ import annotations

from fractions import Fraction
from math import isfinite

import numpy as np


def fma32(a, b, c, scale=0):
    """(a * b + c) * 2 ** scale of float32, rounded once.

    The product of two 24-bit mantissas is exact in float64. The sum is rounded to odd there (the last bit set if
    anything was lost), after which rounding to 24 bits gives what rounding the exact sum would.
    """
    a, b, c = (np.asarray(x, np.float32).astype(np.float64) for x in np.broadcast_arrays(a, b, c))
    product = a * b
    total = product + c
    back = total - product
    lost = (product - (total - back)) + (c - back)  # Knuth's exact error of the sum
    even = total.view(np.uint64) & np.uint64(1) == 0
    odd = np.nextafter(total, np.where(lost > 0, np.inf, -np.inf))
    return np.ldexp(np.where(np.isfinite(total) & (lost != 0) & even, odd, total), scale).astype(np.float32)


def fma64(a, b, c, scale=0):
    """(a * b + c) * 2 ** scale of float64, rounded once, by rational numbers."""
    a, b, c, scale = np.broadcast_arrays(a, b, c, scale)
    out = np.asarray(a * b + c)  # right where a factor is not finite, and for the sign of an exact zero
    flat = out.reshape(-1)
    for i, (x, y, z, k) in enumerate(zip(a.flat, b.flat, c.flat, scale.flat, strict=True)):
        if isfinite(x) and isfinite(y):
            exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) if isfinite(z) else 0
            if exact:
                flat[i] = rounded(exact * Fraction(2) ** int(k))
            elif not isfinite(z):
                flat[i] = z
    return out


def rounded(exact: Fraction) -> float:
    """The float64 nearest to a rational number that is not 0."""
    try:
        value = exact.numerator / exact.denominator
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")
    return value if value or exact > 0 else -0.0


def signalling(x):
    """NaNs whose first mantissa bit is 0."""
    bits = x.view(np.uint32)
    return np.isnan(x) & (bits & np.uint32(0x00400000) == 0)


def maximum(a, b, ieee: bool = False):
    """The larger; the other one if one is NaN; +0 of two zeros. In IEEE mode a signalling NaN gives NaN."""
    a, b = np.broadcast_arrays(a, b)
    larger = np.where(a > b, a, np.where(b > a, b, np.where(np.signbit(a), b, a)))
    out = np.where(np.isnan(a), b, np.where(np.isnan(b), a, larger))
    return np.where(signalling(a) | signalling(b), np.float32("nan"), out) if ieee else out


def minimum(a, b):
    return -maximum(-a, -b)


def saturated(x, low: int, high: int):
    """The integer that a float is truncated to, at most `high` and at least `low`; NaN gives 0. int64."""
    x = np.where(np.isnan(x), 0, x.astype(np.float64))
    return np.trunc(np.clip(x, low, high)).astype(np.int64)
