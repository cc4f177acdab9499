"""Q2_K: d * sc * code - dmin * m, 2-bit codes, 4-bit sc and m a group of 16, fp16 d and dmin a block of 256.

Source: ggml's `block_q2_K`: 16 bytes of sc (low nibble) and m (high nibble), 64 bytes of codes (bits 2i of byte j:
weight 32i + j of a run of 128), d, dmin.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.language import jit, tl
from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat


def _split(blocks: Tensor) -> Fields:
    codes, s = words.spread(blocks[:, 16:80], 2, 32), blocks[:, :16].contiguous()
    return Fields(codes, s, words.take(blocks, 80, 84, torch.int32))


def _join(fields: Fields) -> Tensor:
    assert fields.s is not None
    return torch.cat((fields.s, words.gather(fields.codes, 2, 32), fields.d.view(torch.uint8)), 1)


def _levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    assert s is not None
    scale, minimum = words.scale_and_minimum(d)
    return scale * (s & 15).to(torch.float32), minimum * (s >> 4).to(torch.float32)


@jit
def _scales(w, at, mask, PART: tl.constexpr):
    both = tl.load(w.s + at * 2 + PART, mask, 0).to(tl.int32)
    word = tl.load(w.d + at // 8, mask, 0)
    return decode.half_of(word, 0) * (both & 15).to(tl.float32), decode.half_of(word, 1) * (both >> 4).to(tl.float32)


FORMAT = QuantFormat(
    "q2_K",
    group=16,
    bits=2,
    minimum=True,
    s_type="u8",
    d_type="i32",
    scales_at={80: 0.072, 82: 0.108},
    split=_split,
    join=_join,
    levels=_levels,
    codes=decode.codes_2,
    scales=_scales,
)
