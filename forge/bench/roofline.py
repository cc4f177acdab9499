"""A time beside the least time that the device's memory and arithmetic allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forge.graph.op import Cost
from forge.lower.device import Device


@dataclass(frozen=True)
class Rate:
    """Work of a known cost done in `seconds`. The roofline is of the device's own numbers: `gbps` and `tflops`."""

    seconds: float
    cost: Cost
    device: Device

    @property
    def gbps(self) -> float:
        return self.cost.bytes / self.seconds / 1e9

    @property
    def tflops(self) -> float:
        return self.cost.flops / self.seconds / 1e12

    @property
    def bound(self) -> str:
        """Which of the two the roofline is of: "memory" or "compute"."""
        return "memory" if self._memory >= self._compute else "compute"

    @property
    def roofline(self) -> float:
        """The share of the limit that was reached, 0 to 1; over 1 where operands were in cache."""
        return max(self._memory, self._compute) / self.seconds

    def json(self) -> dict[str, Any]:
        return {
            "us": self.seconds * 1e6,
            "gbps": self.gbps,
            "tflops": self.tflops,
            "bound": self.bound,
            "roofline": self.roofline,
        }

    @property
    def _memory(self) -> float:
        return self.cost.bytes / (self.device.gbps * 1e9)

    @property
    def _compute(self) -> float:
        return self.cost.flops / (self.device.tflops * 1e12)
