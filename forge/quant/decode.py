"""Device functions that the formats share: int8 codes out of words, and scales out of the planes s and d.

`codes_*(q, h, w, half)` give four int8 codes in an int32. Signed codes are made by c + (128 - offset) in each byte,
which carries into no neighbour, and then the flip of bit 7, which subtracts 128.
"""

from __future__ import annotations

from forge.language import jit, tl


@jit
def codes_4(q, h, w, half):
    return (q >> (4 * half)) & 0x0F0F0F0F


@jit
def codes_4_signed(q, h, w, half):
    return (codes_4(q, h, w, half) + 0x78787878) ^ -0x7F7F7F80


@jit
def codes_5(q, h, w, half):
    return codes_4(q, h, w, half) | (((h >> (w + 4 * half)) & 0x01010101) << 4)


@jit
def codes_5_signed(q, h, w, half):
    return (codes_5(q, h, w, half) + 0x70707070) ^ -0x7F7F7F80


@jit
def codes_6_signed(q, h, w, half):
    """Groups of 16: a half has an h word of its own."""
    low = codes_4(q, h, w, half) | (((h >> (2 * w)) & 0x03030303) << 4)
    return (low + 0x60606060) ^ -0x7F7F7F80


@jit
def codes_8(q, h, w, half):
    return q


@jit
def half_of(word, PLACE: tl.constexpr):
    """The fp16 in the low (0) or high (1) half of an int32 word, as f32."""
    return (word >> (16 * PLACE)).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@jit
def scale_alone(s_ptr, d_ptr, group, mask):
    """fp16 d a group; no minimum."""
    scale = tl.load(d_ptr + group, mask, 0.0).to(tl.float32)
    return scale, scale


@jit
def scale_and_addend(s_ptr, d_ptr, group, mask):
    """A word of fp16 d and m a group: d * code + m."""
    word = tl.load(d_ptr + group, mask, 0)
    return half_of(word, 0), -half_of(word, 1)


@jit
def scales_of_8(s_ptr, d_ptr, group, mask):
    """Eight groups a block: u8 scale and u8 minimum in an int16 a group, times the block's fp16 d and dmin."""
    both = tl.load(s_ptr + group, mask, 0).to(tl.int32)
    word = tl.load(d_ptr + group // 8, mask, 0)
    return half_of(word, 0) * (both & 255).to(tl.float32), half_of(word, 1) * ((both >> 8) & 255).to(tl.float32)


@jit
def scales_of_16(s_ptr, d_ptr, group, mask):
    """Sixteen groups a block: an int8 scale a group times the block's fp16 d; no minimum."""
    scale = tl.load(d_ptr + group // 16, mask, 0.0).to(tl.float32) * tl.load(s_ptr + group, mask, 0).to(tl.float32)
    return scale, scale


@jit
def scale_f32(s_ptr, d_ptr, group, mask):
    """f32 d a group, as quantized activations have it; no minimum."""
    scale = tl.load(d_ptr + group, mask, 0.0)
    return scale, scale
