"""IQ4_NL: d * VALUES[code], 4-bit codes into a table of 16, an fp16 d a block of 32.

Source: ggml's `block_iq4_nl`: d, 16 bytes of nibbles; the table is `kvalues_iq4nl`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.language import jit, tl
from forge.quant import decode, words
from forge.quant.format import Fields, QuantFormat
from forge.quant.tables import look_up, words_of_table

VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
TABLE = words_of_table(VALUES)


def _split(blocks: Tensor) -> Fields:
    return Fields(words.spread(blocks[:, 2:], 4, 16), None, words.take(blocks, 0, 2, torch.float16))


def _join(fields: Fields) -> Tensor:
    return torch.cat((fields.d.view(torch.uint8), words.gather(fields.codes, 4, 16)), 1)


def _levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    return d.to(torch.float32), None


def _decoded(fields: Fields) -> Tensor:
    return torch.tensor(VALUES, dtype=torch.int8, device=fields.codes.device)[fields.codes.long()]


@jit
def _codes(w, q, at, mask, FIELD: tl.constexpr):
    return look_up(decode.codes_4(w, q, at, mask, FIELD), TABLE)


FORMAT = QuantFormat(
    "iq4_nl",
    group=32,
    bits=4,
    scales_at={0: 0.0154},
    split=_split,
    join=_join,
    levels=_levels,
    decoded=_decoded,
    codes=_codes,
    scales=decode.scale_alone,
)
