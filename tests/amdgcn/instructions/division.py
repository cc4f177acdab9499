"""The steps of division: v_div_scale, v_div_fmas, v_div_fixup."""

from __future__ import annotations

import numpy as np
from amdgcn.instructions.exact import fma32, fma64
from amdgcn.instructions.oracle import oracle


def exponent(x):
    """The biased exponent, 0 for denormals."""
    width, top = (23, 255) if x.dtype == np.float32 else (52, 2047)
    return x.view(f"i{x.dtype.itemsize}").astype(np.int64) >> width & top


def _fixup(quotient, denominator, numerator):
    """D = the quotient with the sign of the division, unless an operand decides: NaN, 0 / 0, inf / inf, x / 0, 0 / x.

    What becomes of a quotient outside the normal numbers is for the tests of whole divisions.
    """
    q, d, n = np.broadcast_arrays(quotient, denominator, numerator)
    sign = np.signbit(d) ^ np.signbit(n)
    signed = lambda x: np.where(sign, -x, x)  # noqa: E731
    zero, infinity, nan = (q.dtype.type(x) for x in ("0", "inf", "nan"))
    out = signed(abs(q))
    out = np.where(np.isinf(d) | (n == 0), signed(zero), out)
    out = np.where((d == 0) | np.isinf(n), signed(infinity), out)
    undefined = np.isnan(d) | np.isnan(n) | ((d == 0) & (n == 0)) | (np.isinf(d) & np.isinf(n))
    size = abs(n.astype(np.longdouble) / d)
    beyond = (size > np.finfo(q.dtype).max) | (size < np.finfo(q.dtype).tiny)
    decided = np.isnan(d) | np.isnan(n) | np.isinf(d) | np.isinf(n) | (d == 0) | (n == 0)
    return np.ma.masked_array(np.where(undefined, nan, out).astype(q.dtype), beyond & ~decided)


oracle(
    "f32 = f32 f32 f32",
    "v_div_fixup_f32 v0, v1, v2, v3",
    cdna=["v_div_fixup_f32 v0, v1, s6, v0"],
    rdna=["v_div_fixup_f32 v0, v10, 0x44600000, v0"],
)(_fixup)
oracle("f64 = f64 f64 f64", "v_div_fixup_f64 v[0:1], v[8:9], v[2:3], v[0:1]", lanes=4096)(_fixup)


@oracle("f32 = f32 f32 f32 vcc", "v_div_fmas_f32 v1, v1, v8, v10", quiet=True)
def fmas(a, b, c, vcc):
    """D = S0 * S1 + S2 rounded once, after * 2**64 or 2**-64 in lanes whose VCC bit is set, where v_div_scale scaled.

    Up where S2 is large (the denominator was scaled), else down; a division never asks near 1.
    """
    scale = np.where(vcc, np.where(exponent(c) > 127, 64, -64), 0)
    return np.ma.masked_array(fma32(a, b, c, scale), vcc & (abs(exponent(c) - 127) < 2) | np.isnan(c))


@oracle("f64 = f64 f64 f64 vcc", "v_div_fmas_f64 v[8:9], v[8:9], v[10:11], v[18:19]", lanes=512, quiet=True)
def fmas64(a, b, c, vcc):
    """The same with 2**128."""
    scale = np.where(vcc, np.where(exponent(c) > 1023, 128, -128), 0)
    open_ = vcc & (abs(exponent(c) - 1023) < 2) | np.isnan(c) | np.isinf(a * b)
    return np.ma.masked_array(fma64(a, b, c, scale), open_)


def _scale(value, denominator, numerator):
    """(D, VCC): the operand S0, scaled by a power of two where a step of the division would leave the normal numbers.

    VCC tells that the quotient must be scaled back. Source: the description of V_DIV_SCALE.
    """
    wide = value.dtype == np.float64
    power, apart, tiny = (128, 768, 53) if wide else (64, 96, 23)
    s0, d, n = np.broadcast_arrays(value, denominator, numerator)
    up, down = (np.ldexp(s0, k).astype(s0.dtype) for k in (power, -power))
    smallest = np.finfo(s0.dtype).tiny
    denormal = lambda x: (x != 0) & (abs(x) < smallest)  # noqa: E731
    inverse, quotient = (denormal((x / d).astype(s0.dtype)) for x in (s0.dtype.type(1), n))
    far = exponent(n) - exponent(d) >= apart
    cases = [
        ((d == 0) | (n == 0), s0.dtype.type("nan"), False),
        (far, np.where(s0 == d, up, s0), True),
        (denormal(d), up, False),
        (inverse & quotient, s0, True),  # the words would scale such a divisor to infinity
        (inverse, down, False),
        (quotient, np.where(s0 == n, up, s0), True),
        (exponent(n) <= tiny, up, False),
    ]
    conditions = [c for c, _, _ in cases]
    out = np.select(conditions, [np.broadcast_to(v, s0.shape) for _, v, _ in cases], s0)
    vcc = np.select(conditions, [np.full(s0.shape, flag) for _, _, flag in cases], False)
    undecided = inverse & quotient & ~conditions[0] & ~far
    return np.ma.masked_array(out.astype(s0.dtype), undecided), vcc


oracle(
    "f32 m = f32 f32 f32",
    cdna=["v_div_scale_f32 v1, s[2:3], v3, v3, v0", "v_div_scale_f32 v1, vcc, v0, v3, v0"],
    rdna=[
        "v_div_scale_f32 v10, s2, v3, v3, v0",
        "v_div_scale_f32 v10, vcc_lo, v0, v3, v0",
        "v_div_scale_f32 v10, null, 0x44600000, 0x44600000, v0",
    ],
    quiet=True,
)(_scale)
oracle(
    "f64 m = f64 f64 f64",
    cdna=["v_div_scale_f64 v[8:9], s[2:3], v[2:3], v[2:3], v[0:1]"],
    rdna=["v_div_scale_f64 v[4:5], null, v[2:3], v[2:3], v[0:1]", "v_div_scale_f64 v[4:5], s4, v[0:1], v[2:3], v[0:1]"],
    quiet=True,
)(_scale)
