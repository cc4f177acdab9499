"""Rows of keys and values to codes and back, in registers: see `forge.quant.cells`."""

from __future__ import annotations

from forge.language import jit, tl

# Four codes of a register to four f16 in two. An int8 is a byte from 0 to 255 with its top bit turned, and that under
# 0x64 is the f16 1024 + byte.
_INT8 = tl and tl.constexpr("""{
    .reg .b32 bytes, offset;
    xor.b32 bytes, $2, 0x80808080;
    mov.b32 offset, 0x64806480;
    prmt.b32 $0, bytes, 0x64646464, 0x4140;
    prmt.b32 $1, bytes, 0x64646464, 0x4342;
    sub.f16x2 $0, $0, offset;
    sub.f16x2 $1, $1, offset;
}""")
_E4M3 = tl and tl.constexpr("""{
    .reg .b16 low, high;
    mov.b32 {low, high}, $2;
    cvt.rn.f16x2.e4m3x2 $0, low;
    cvt.rn.f16x2.e4m3x2 $1, high;
}""")


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
def numbers(codes, TO: tl.constexpr, PTX: tl.constexpr):
    """The numbers that codes stand for, int8 or the bits of e4m3 in uint8, in the type TO; e4m3's NaN gives a number.

    With PTX four at a time, by few instructions of sm_89 and later.
    """
    FP8: tl.constexpr = codes.dtype == tl.uint8
    if PTX and FP8:
        halves = tl.inline_asm_elementwise(_E4M3, "=r,=r,r", [codes], dtype=tl.float16, is_pure=True, pack=4)
    elif PTX:
        halves = tl.inline_asm_elementwise(_INT8, "=r,=r,r", [codes], dtype=tl.float16, is_pure=True, pack=4)
    elif FP8:
        # The fields of e4m3 moved to those of f16, whose exponent has a bias greater by 8: the number / 2^8.
        bits = (codes.to(tl.int8, bitcast=True).to(tl.int16) << 7) & -16385
        halves = bits.to(tl.float16, bitcast=True) * 256.0
    else:
        halves = codes.to(tl.float16)
    return halves.to(TO)
