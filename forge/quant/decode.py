"""Device functions that the formats share: int8 codes out of words, and scales out of the planes s and d.

`codes_*(w, q, at, mask, FIELD)` give four int8 codes in an int32 for each word of q [runs,words]. Signed codes are made
by c + (128 - offset) in each byte, which carries into no neighbour, and then the flip of bit 7, which subtracts 128.
`scale*(w, at, mask, PART)` give the scale and the minimum of group PART of the runs `at`; without a minimum, whatever.
"""

from __future__ import annotations

from forge.language import jit, tl


@jit
def codes_4(w, q, at, mask, FIELD: tl.constexpr):
    return (q >> (4 * FIELD)) & 0x0F0F0F0F


@jit
def codes_4_signed(w, q, at, mask, FIELD: tl.constexpr):
    return (codes_4(w, q, at, mask, FIELD) + 0x78787878) ^ -0x7F7F7F80


@jit
def codes_5(w, q, at, mask, FIELD: tl.constexpr):
    """A word of fifth bits a run."""
    h = tl.load(w.h + at, mask, 0)[:, None]
    word = tl.arange(0, 4)[None, :]
    return codes_4(w, q, at, mask, FIELD) | (((h >> (word + 4 * FIELD)) & 0x01010101) << 4)


@jit
def codes_5_signed(w, q, at, mask, FIELD: tl.constexpr):
    return (codes_5(w, q, at, mask, FIELD) + 0x70707070) ^ -0x7F7F7F80


@jit
def codes_6_signed(w, q, at, mask, FIELD: tl.constexpr):
    """A word of upper bit pairs a field."""
    h = tl.load(w.h + at * 2 + FIELD, mask, 0)[:, None]
    word = tl.arange(0, 4)[None, :]
    low = codes_4(w, q, at, mask, FIELD) | (((h >> (2 * word)) & 0x03030303) << 4)
    return (low + 0x60606060) ^ -0x7F7F7F80


@jit
def codes_2(w, q, at, mask, FIELD: tl.constexpr):
    return (q >> (2 * FIELD)) & 0x03030303


@jit
def codes_8(w, q, at, mask, FIELD: tl.constexpr):
    return q


@jit
def half_of(word, PLACE: tl.constexpr):
    """The fp16 in the low (0) or high (1) half of an int32 word, as f32."""
    return (word >> (16 * PLACE)).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@jit
def scale_alone(w, at, mask, PART: tl.constexpr):
    """d a run, fp16 or f32; no minimum."""
    scale = tl.load(w.d + at, mask, 0.0).to(tl.float32)
    return scale, scale


@jit
def scale_and_addend(w, at, mask, PART: tl.constexpr):
    """A word of fp16 d and m a run: d * code + m."""
    word = tl.load(w.d + at, mask, 0)
    return half_of(word, 0), -half_of(word, 1)


@jit
def scales_of_8(w, at, mask, PART: tl.constexpr):
    """Eight runs a block: u8 scale and u8 minimum in an int16 a run, times the block's fp16 d and dmin."""
    both = tl.load(w.s + at, mask, 0).to(tl.int32)
    word = tl.load(w.d + at // 8, mask, 0)
    return half_of(word, 0) * (both & 255).to(tl.float32), half_of(word, 1) * ((both >> 8) & 255).to(tl.float32)


@jit
def scales_of_16(w, at, mask, PART: tl.constexpr):
    """Eight runs a block, two groups a run: an int8 scale a group times the block's fp16 d; no minimum."""
    both = tl.load(w.s.to(tl.pointer_type(tl.int16)) + at, mask, 0).to(tl.int32)
    d = tl.load(w.d + at // 8, mask, 0.0).to(tl.float32)
    scale = d * ((both << (24 - 8 * PART)) >> 24).to(tl.float32)
    return scale, scale
