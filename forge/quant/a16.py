"""A16: an activation as two int8 codes, d * (q + h / 256), with an f32 d = max|x| / 127 and an f32 sum a group of 32.

No file holds it. q is the whole code next to x / d, and h counts 256ths from there, so that a value is rounded to a
256th of d. The plane h holds four codes a word, as q; the sum is of the group's values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.quant import decode
from forge.quant.a8 import codes_of, levels, steps_of
from forge.quant.format import Fields, QuantFormat


def _quantize(x: Tensor) -> dict[str, Tensor]:
    d, value = steps_of(x, 256)
    q = torch.floor(value + 0.5)
    total = (d * value.sum(-1, keepdim=True))[..., 0]
    return {"q": codes_of(q), "h": codes_of((value - q) * 256), "d": d[..., 0], "sum": total}


def _decoded(fields: Fields) -> Tensor:
    assert fields.second is not None
    return fields.codes.view(torch.int8) + fields.second / 256


FORMAT = QuantFormat(
    "a16",
    group=32,
    high=8,
    residual=True,
    d_type="f32",
    sums=True,
    quantize=_quantize,
    levels=levels,
    decoded=_decoded,
    codes=decode.codes_8,
    scales=decode.scale_alone,
)
