"""MXFP4: 2^(e - 128) * VALUES[code], 4-bit codes (twice what E2M1 says), an exponent e of 8 bits a block of 32.

Source: OCP Microscaling Formats 1.0, E8M0 and E2M1; ggml's `block_mxfp4`: e, 16 bytes of nibbles.
"""

from __future__ import annotations

from math import log2

import torch
from torch import Tensor

from forge.language import jit, tl
from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat
from forge.quant.tables import look_up, words_of_table

VALUES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
RMS = 5.85  # of the values
TABLE = words_of_table(VALUES)


def _split(blocks: Tensor) -> Fields:
    return Fields(words.spread(blocks[:, 1:], 4, 16), None, blocks[:, :1].contiguous())


def _join(fields: Fields) -> Tensor:
    return torch.cat((fields.d, words.gather(fields.codes, 4, 16)), 1)


def _levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    """The two least exponents make denormal numbers."""
    e = d.to(torch.int32)
    return torch.where(e < 2, 0x00200000 << (e & 1), (e - 1) << 23).view(torch.float32), None


def _decoded(fields: Fields) -> Tensor:
    return torch.tensor(VALUES, dtype=torch.int8, device=fields.codes.device)[fields.codes.long()]


def _random(generator: torch.Generator, count: int, rms: float) -> Tensor:
    blocks = torch.randint(0, 256, (count, 17), generator=generator, device=generator.device, dtype=torch.uint8)
    near = torch.randint(-1, 2, (count,), generator=generator, device=generator.device)
    blocks[:, 0] = (128 + round(log2(rms / RMS)) + near).to(torch.uint8)
    return blocks


@jit
def _codes(w, q, at, mask, FIELD: tl.constexpr):
    return look_up(decode.codes_4(w, q, at, mask, FIELD), TABLE)


@jit
def _scales(w, at, mask, PART: tl.constexpr):
    e = tl.load(w.d + at, mask, 0).to(tl.int32)
    scale = tl.where(e < 2, 0x00200000 << (e & 1), (e - 1) << 23).to(tl.float32, bitcast=True)
    return scale, scale


FORMAT = QuantFormat(
    "mxfp4",
    group=32,
    bits=4,
    d_type="u8",
    split=_split,
    join=_join,
    levels=_levels,
    decoded=_decoded,
    random=_random,
    codes=_codes,
    scales=_scales,
)
