"""Q5_1: d * code + m, 5-bit codes, fp16 d and m a block of 32.

Source: ggml's `block_q5_1`: d, m, a string of 32 fifth bits, 16 bytes of nibbles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat


def _split(blocks: Tensor) -> Fields:
    codes = words.spread(blocks[:, 8:], 4, 16) | words.bits_of(blocks[:, 4:8], 4)
    return Fields(codes, None, words.take(blocks, 0, 4, torch.int32))


def _join(fields: Fields) -> Tensor:
    codes = fields.codes
    return torch.cat((fields.d.view(torch.uint8), words.bit_string(codes, 4), words.gather(codes & 15, 4, 16)), 1)


def _levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    scale, addend = words.scale_and_minimum(d)
    return scale, -addend


FORMAT = QuantFormat(
    "q5_1",
    group=32,
    bits=4,
    high=1,
    minimum=True,
    d_type="i32",
    scales_at={0: 0.1083, 2: -1.732},
    split=_split,
    join=_join,
    levels=_levels,
    codes=decode.codes_5,
    scales=decode.scale_and_addend,
)
