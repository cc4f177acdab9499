"""Q5_K: d * sc * code - dmin * m, 5-bit codes, 6-bit sc and m a group of 32, fp16 d and dmin a block of 256.

Source: ggml's `block_q5_K`: d, dmin, sc and m as in Q4_K, 32 bytes of fifth bits (bit g of byte j: weight j of group
g), and 128 bytes of nibbles as in Q4_K.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat
from forge.quant.q4_K import group_scales, levels, packed_scales


def _split(blocks: Tensor) -> Fields:
    codes = words.spread(blocks[:, 48:], 4, 32) | (words.spread(blocks[:, 16:48], 1, 32) << 4)
    return Fields(codes, group_scales(blocks[:, 4:16]), words.take(blocks, 0, 4, torch.int32))


def _join(fields: Fields) -> Tensor:
    codes, s, d, _ = fields
    assert s is not None
    parts = (d.view(torch.uint8), packed_scales(s), words.gather(codes >> 4, 1, 32), words.gather(codes & 15, 4, 32))
    return torch.cat(parts, 1)


FORMAT = QuantFormat(
    "q5_K",
    group=32,
    bits=4,
    high=1,
    minimum=True,
    s_type="i16",
    d_type="i32",
    scales_at={0: 0.001359, 2: 0.02174},
    split=_split,
    join=_join,
    levels=levels,
    codes=decode.codes_5,
    scales=decode.scales_of_8,
)
