"""F16: IEEE half precision. A plain type: its plane q is the tensor itself."""

from __future__ import annotations

from forge.quant.format import QuantFormat

FORMAT = QuantFormat("f16", group=1)
