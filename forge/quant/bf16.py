"""BF16: bfloat16, the upper half of an IEEE single. A plain type: its plane q is the tensor itself."""

from __future__ import annotations

from forge.quant.format import QuantFormat

FORMAT = QuantFormat("bf16", group=1)
