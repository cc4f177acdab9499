"""Q4_K: d * sc * code - dmin * m, 4-bit codes, 6-bit sc and m a group of 32, fp16 d and dmin a block of 256.

Source: ggml's `block_q4_K`: d, dmin, 12 bytes of sc and m, and 128 bytes of nibbles (a run of 32 low ones, then the
32 high ones). Of the 12 bytes, 0-3 and 4-7 hold sc and m of groups 0-3 in their low six bits; bytes 8-11 hold the low
nibbles of sc and of m of groups 4-7, whose upper two bits are the upper two of bytes 0-3 and 4-7.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat


def group_scales(packed: Tensor) -> Tensor:
    """The 12 bytes [B,12] as int16 [B,8]: sc in the low byte, m in the high byte."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    sc = torch.cat((first & 63, (third & 15) | ((first >> 6) << 4)), 1)
    m = torch.cat((second & 63, (third >> 4) | ((second >> 6) << 4)), 1)
    return torch.stack((sc, m), 2).view(torch.int16).squeeze(2)


def packed_scales(s: Tensor) -> Tensor:
    """The inverse of `group_scales`."""
    both = s.contiguous().view(torch.uint8).reshape(-1, 8, 2)
    sc, m = both[..., 0], both[..., 1]
    first = sc[:, :4] | ((sc[:, 4:] >> 4) << 6)
    second = m[:, :4] | ((m[:, 4:] >> 4) << 6)
    return torch.cat((first, second, (sc[:, 4:] & 15) | (m[:, 4:] << 4)), 1)


def levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    assert s is not None
    both = s.contiguous().view(torch.uint8).reshape(-1, 8, 2).to(torch.float32)
    scale, minimum = words.scale_and_minimum(d)
    return scale * both[..., 0], minimum * both[..., 1]


def _split(blocks: Tensor) -> Fields:
    codes = words.spread(blocks[:, 16:], 4, 32)
    return Fields(codes, group_scales(blocks[:, 4:16]), words.take(blocks, 0, 4, torch.int32))


def _join(fields: Fields) -> Tensor:
    assert fields.s is not None
    return torch.cat((fields.d.view(torch.uint8), packed_scales(fields.s), words.gather(fields.codes, 4, 32)), 1)


FORMAT = QuantFormat(
    "q4_K",
    group=32,
    bits=4,
    minimum=True,
    s_type="i16",
    d_type="i32",
    scales_at={0: 0.002717, 2: 0.02174},
    split=_split,
    join=_join,
    levels=levels,
    codes=decode.codes_4,
    scales=decode.scales_of_8,
)
