"""Codes to int32 words and back, in torch: the order of bits in the planes q and h (see `forge/quant/format.py`)."""

from __future__ import annotations

import torch
from torch import Tensor

TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def nibbles(codes: Tensor) -> Tensor:
    """The low four bits of codes uint8 [B,block] as words [B*block/32,4]."""
    halves = codes.reshape(-1, 2, 16)
    packed = halves[:, 1] << 4
    packed |= halves[:, 0] & 15
    return packed.view(torch.int32)


def from_nibbles(q: Tensor) -> Tensor:
    """The low four bits of every code, uint8 [runs,32], from words."""
    packed = q.contiguous().view(torch.uint8).reshape(-1, 16)
    return torch.cat((packed & 15, packed >> 4), 1)


def high_bits(codes: Tensor, bits: int) -> Tensor:
    """Bits 4 and up of codes uint8 [G,group] as a word a group [G,1]: byte b gathers weights b, 4+b, 8+b, ..."""
    quads = (codes >> 4).reshape(codes.shape[0], -1, 4)
    packed = torch.zeros_like(quads[:, 0])
    for i in range(quads.shape[1]):
        packed |= quads[:, i] << (bits * i)
    return packed.view(torch.int32)


def from_high_bits(h: Tensor, bits: int, group: int) -> Tensor:
    """uint8 [G,group] with the bits of words h [G,1] at bit 4 and up."""
    packed = h.contiguous().view(torch.uint8)
    quads = [((packed >> (bits * i)) & ((1 << bits) - 1)) << 4 for i in range(group // 4)]
    return torch.stack(quads, 1).reshape(-1, group)


def halves(d: Tensor) -> tuple[Tensor, Tensor]:
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
