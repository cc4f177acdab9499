"""Q6_K: d * sc * (code - 32), 6-bit codes, an int8 sc a group of 16, an fp16 d a block of 256.

Source: ggml's `block_q6_K`: 128 bytes of low nibbles in runs of 64, 64 bytes of upper bit pairs in runs of 32, 16
bytes of sc, d.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat


def _split(blocks: Tensor) -> Fields:
    codes = words.spread(blocks[:, :128], 4, 64) | (words.spread(blocks[:, 128:192], 2, 32) << 4)
    return Fields(codes, words.take(blocks, 192, 208, torch.int8), words.take(blocks, 208, 210, torch.float16))


def _join(fields: Fields) -> Tensor:
    codes, s, d, _ = fields
    assert s is not None
    low, high = words.gather(codes & 15, 4, 64), words.gather(codes >> 4, 2, 32)
    return torch.cat((low, high, s.view(torch.uint8), d.view(torch.uint8)), 1)


def _levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    assert s is not None
    return d.to(torch.float32) * s.to(torch.float32), None


FORMAT = QuantFormat(
    "q6_K",
    group=16,
    bits=4,
    high=2,
    offset=32,
    s_type="i8",
    scales_at={208: 0.000731},
    split=_split,
    join=_join,
    levels=_levels,
    codes=decode.codes_6_signed,
    scales=decode.scales_of_16,
)
