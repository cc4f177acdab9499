"""A16: an activation as two int8 codes, d * (q + h / 256), with an f32 d and an f32 sum a group of 32.

No file holds it. The second codes, which count 256ths of the first, are the plane h.
"""

from __future__ import annotations

from forge.quant import decode
from forge.quant.format import QuantFormat

FORMAT = QuantFormat(
    "a16", group=32, high=8, residual=True, d_type="f32", sums=True, codes=decode.codes_8, scales=decode.scale_alone
)
