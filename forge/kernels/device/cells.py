"""Rows of keys and values to codes and back, in registers: see `forge.quant.cells`."""

from __future__ import annotations

from forge.language import jit, tl


@jit
def scale_of(largest, spoilt, FP8: tl.constexpr):
    """The scales of rows whose largest |x| are given; `spoilt` is 0, or NaN where a row has a NaN or an infinity."""
    LARGEST: tl.constexpr = 448.0 if FP8 else 127.0
    return tl.div_rn(largest, tl.full(largest.shape, LARGEST, tl.float32)) + spoilt


@jit
def code_of(x, scale, FP8: tl.constexpr):
    """x f32[R,N] / scale[R], rounded to codes: int8, or with FP8 the bits of e4m3 in uint8."""
    divisor = tl.where(scale == 0.0, 1.0, scale)[:, None]
    y = tl.div_rn(x, tl.broadcast_to(divisor, x.shape))
    # Adding 1.5 * 2^23 leaves no bits for a fraction: rounds to nearest, ties to even.
    if FP8:
        sign = (y.to(tl.int32, bitcast=True) >> 24) & 0x80
        y = tl.minimum(tl.abs(y), 448.0)
        bits = y.to(tl.int32, bitcast=True)
        normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - (120 << 3)  # 3 bits of fraction; the bias is 7
        small = ((y * 512.0 + 12582912.0) - 12582912.0).to(tl.int32)  # below 2^-6 codes count 2^-9
        codes = (tl.where(y < 0.015625, small, normal) | sign).to(tl.uint8)
    else:
        codes = tl.clamp((y + 12582912.0) - 12582912.0, -127.0, 127.0).to(tl.int32).to(tl.int8)
    return codes


@jit
def numbers(codes, TO: tl.constexpr):
    """What codes stand for, in the type TO; other elements are converted."""
    if codes.dtype == tl.uint8:
        # The fields of e4m3 moved to those of f16, whose exponent has a bias greater by 8: the number / 2^8.
        halves = (codes.to(tl.int8, bitcast=True).to(tl.int16) << 7) & -16385
        values = (halves.to(tl.float16, bitcast=True) * 256.0).to(TO)
    elif codes.dtype.is_int():  # by way of f16, as the interpreter knows no bf16 of an integer
        values = codes.to(tl.float16).to(TO)
    else:
        values = codes.to(TO)
    return values
