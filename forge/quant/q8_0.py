"""Q8_0: d * code, int8 codes, an fp16 d a block of 32.  Source: ggml's `block_q8_0`: d, 32 bytes of codes."""

from __future__ import annotations

import torch
from torch import Tensor

from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat


def _split(blocks: Tensor) -> Fields:
    return Fields(blocks[:, 2:].contiguous(), None, words.take(blocks, 0, 2, torch.float16))


def _join(fields: Fields) -> Tensor:
    return torch.cat((fields.d.view(torch.uint8), fields.codes), 1)


def _levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    return d.to(torch.float32), None


FORMAT = QuantFormat(
    "q8_0",
    group=32,
    scales_at={0: 0.01353},
    split=_split,
    join=_join,
    levels=_levels,
    codes=decode.codes_8,
    scales=decode.scale_alone,
)
