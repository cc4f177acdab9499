"""A8: an activation as one int8 code, d * q, with an f32 d = max|x| / 127 and an f32 sum a group of 32.

No file holds it. The sum is of the group's values, by which the minimum of a weight's group is multiplied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.quant import decode
from forge.quant.format import QuantFormat


def steps_of(x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """(d f32 [T,D/32,1], x / d f32 [T,D/32,32] rounded to whole steps of 1 / `steps`) of x [T,D]; ties go to even."""
    groups = x.float().unflatten(-1, (-1, 32))
    d = groups.abs().amax(-1, keepdim=True) / 127
    codes = torch.where(d == 0, 0.0, groups / d * steps).round().clamp(-127 * steps, 127 * steps)
    return d, codes / steps


def codes_of(numbers: Tensor) -> Tensor:
    """int32 [T,D/4] of whole numbers [T,D/32,32]: four int8 codes a word."""
    return numbers.to(torch.int8).flatten(-2).view(torch.int32)


def levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    return d, None


def _quantize(x: Tensor) -> dict[str, Tensor]:
    d, q = steps_of(x, 1)
    return {"q": codes_of(q), "d": d[..., 0], "sum": (d * q.sum(-1, keepdim=True))[..., 0]}


FORMAT = QuantFormat(
    "a8",
    group=32,
    d_type="f32",
    sums=True,
    quantize=_quantize,
    levels=levels,
    codes=decode.codes_8,
    scales=decode.scale_alone,
)
