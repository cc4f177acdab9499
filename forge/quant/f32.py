"""F32: IEEE single precision. A plain type: its plane q is the tensor itself."""

from __future__ import annotations

from forge.quant.format import QuantFormat

FORMAT = QuantFormat("f32", group=1)
