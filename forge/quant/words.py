"""Codes to int32 words and back, in torch: the order of bits in the planes q and h (see `forge/quant/format.py`)."""

from __future__ import annotations

import torch
from torch import Tensor


def packed(numbers: Tensor, bits: int) -> Tensor:
    """The low `bits` bits of numbers uint8 [runs,n] as int32 words [runs,n*bits/32].

    Byte b of word w holds in its field f the number 4 * (f * words + w) + b of the run.
    """
    if bits == 8:
        return numbers.contiguous().view(torch.int32)
    fields = numbers.reshape(numbers.shape[0], 8 // bits, -1)
    mask = (1 << bits) - 1
    out = fields[:, 0] & mask
    for i in range(1, 8 // bits):
        out |= (fields[:, i] & mask) << (bits * i)
    return out.contiguous().view(torch.int32)


def unpacked(q: Tensor, bits: int) -> Tensor:
    """The numbers uint8 [runs,n] of words [runs,n*bits/32]: the inverse of `packed`."""
    octets = q.contiguous().view(torch.uint8)
    if bits == 8:
        return octets
    mask = (1 << bits) - 1
    return torch.cat([(octets >> (bits * i)) & mask for i in range(8 // bits)], 1)


def high_bits(codes: Tensor, bits: int) -> Tensor:
    """Bits 4 and up of codes uint8 [G,32/bits], as a word each [G,1]: byte b gathers weights b, 4+b, 8+b, ..."""
    quads = (codes >> 4).reshape(codes.shape[0], -1, 4)
    out = torch.zeros_like(quads[:, 0])
    for i in range(quads.shape[1]):
        out |= quads[:, i] << (bits * i)
    return out.view(torch.int32)


def from_high_bits(h: Tensor, bits: int) -> Tensor:
    """uint8 [G,32/bits] with the bits of words h [G,1] at bit 4 and up."""
    octets = h.contiguous().view(torch.uint8)
    quads = [((octets >> (bits * i)) & ((1 << bits) - 1)) << 4 for i in range(8 // bits)]
    return torch.stack(quads, 1).reshape(octets.shape[0], -1)


def scale_and_minimum(d: Tensor) -> tuple[Tensor, Tensor]:
    """The two fp16 of each int32 [B,1] word as f32 [B,1] each: scale, minimum."""
    both = d.contiguous().view(torch.float16).to(torch.float32)
    return both[:, :1], both[:, 1:]


def take(blocks: Tensor, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Bytes start:stop of each block as elements of `dtype`."""
    return blocks[:, start:stop].contiguous().view(dtype)


def spread(packed: Tensor, bits: int, run: int) -> Tensor:
    """ggml's order: uint8 [B,n] holds in bits `bits*i` and up of byte j of each run the code of place i*run + j."""
    runs = packed.reshape(packed.shape[0], -1, run)
    mask = (1 << bits) - 1
    fields = [(runs >> shift) & mask if shift else runs & mask for shift in range(0, 8, bits)]
    return torch.stack(fields, 2).reshape(packed.shape[0], -1)


def gather(codes: Tensor, bits: int, run: int) -> Tensor:
    """The inverse of `spread`."""
    fields = codes.reshape(codes.shape[0], -1, 8 // bits, run)
    packed = fields[:, :, 0].clone()
    for i in range(1, 8 // bits):
        packed |= fields[:, :, i] << (bits * i)
    return packed.reshape(codes.shape[0], -1)


def bits_of(packed: Tensor, shift: int) -> Tensor:
    """Bit i of each block's little-endian bit string [B,n], moved to bit `shift`: uint8 [B,8n]."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return (((packed[:, :, None] >> places) & 1) << shift).reshape(packed.shape[0], -1)


def bit_string(codes: Tensor, shift: int) -> Tensor:
    """The inverse of `bits_of`: bit `shift` of codes [B,8n] as bytes [B,n]."""
    bits = ((codes >> shift) & 1).reshape(codes.shape[0], -1, 8)
    packed = torch.zeros_like(bits[:, :, 0])
    for i in range(8):
        packed |= bits[:, :, i] << i
    return packed
