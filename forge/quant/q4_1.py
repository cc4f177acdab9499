"""Q4_1: d * code + m, 4-bit codes, fp16 d and m a block of 32.

Source: ggml's `block_q4_1`: d, m, 16 bytes of nibbles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat


def _split(blocks: Tensor) -> Fields:
    return Fields(words.spread(blocks[:, 4:], 4, 16), None, words.take(blocks, 0, 4, torch.int32))


def _join(fields: Fields) -> Tensor:
    return torch.cat((fields.d.view(torch.uint8), words.gather(fields.codes, 4, 16)), 1)


def _levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    scale, addend = words.scale_and_minimum(d)
    return scale, -addend


FORMAT = QuantFormat(
    "q4_1",
    group=32,
    bits=4,
    minimum=True,
    d_type="i32",
    scales_at={0: 0.2165, 2: -1.732},
    split=_split,
    join=_join,
    levels=_levels,
    codes=decode.codes_4,
    scales=decode.scale_and_addend,
)
