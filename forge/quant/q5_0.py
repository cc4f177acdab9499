"""Q5_0: d * (code - 16), 5-bit codes, an fp16 d a block of 32.

Source: ggml's `block_q5_0`: d, a string of 32 fifth bits, 16 bytes of nibbles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat


def _split(blocks: Tensor) -> Fields:
    codes = words.spread(blocks[:, 6:], 4, 16) | words.bits_of(blocks[:, 2:6], 4)
    return Fields(codes, None, words.take(blocks, 0, 2, torch.float16))


def _join(fields: Fields) -> Tensor:
    codes = fields.codes
    return torch.cat((fields.d.view(torch.uint8), words.bit_string(codes, 4), words.gather(codes & 15, 4, 16)), 1)


def _levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    return d.to(torch.float32), None


FORMAT = QuantFormat(
    "q5_0",
    group=32,
    bits=4,
    high=1,
    offset=16,
    scales_at={0: 0.1083},
    split=_split,
    join=_join,
    levels=_levels,
    codes=decode.codes_5_signed,
    scales=decode.scale_alone,
)
