"""A8: an activation as one int8 code, d * q, with an f32 d and an f32 sum a group of 32. No file holds it."""

from __future__ import annotations

from forge.quant import decode
from forge.quant.format import QuantFormat

FORMAT = QuantFormat("a8", group=32, d_type="f32", sums=True, codes=decode.codes_8, scales=decode.scale_alone)
