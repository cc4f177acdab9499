"""Q4_0: d * (code - 8), 4-bit codes, an fp16 d a block of 32.  Source: ggml's `block_q4_0`: d, 16 bytes of nibbles."""

from __future__ import annotations

import torch
from torch import Tensor

from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat


def _split(blocks: Tensor) -> Fields:
    return Fields(words.spread(blocks[:, 2:], 4, 16), None, words.take(blocks, 0, 2, torch.float16))


def _join(fields: Fields) -> Tensor:
    return torch.cat((fields.d.view(torch.uint8), words.gather(fields.codes, 4, 16)), 1)


def _levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    return d.to(torch.float32), None


FORMAT = QuantFormat(
    "q4_0",
    group=32,
    bits=4,
    offset=8,
    scales_at={0: 0.2165},
    split=_split,
    join=_join,
    levels=_levels,
    codes=decode.codes_4_signed,
    scales=decode.scale_alone,
)
