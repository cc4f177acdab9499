"""A time beside the least time that the device's memory and arithmetic allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forge.graph.ir import Node, Value
from forge.graph.op import Cost
from forge.graph.types import TensorType, tensor
from forge.lower.device import Device
from forge.lower.sizes import Sizes


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


def cost_of(node: Node, sizes: Sizes, pages: int) -> Cost:
    """The cost of a call at `sizes`, with page tables of `pages` a sequence instead of those that there is room for."""

    def type_of(value: Value | None) -> TensorType | None:
        if value is None:
            return None
        bound = value.type.bind(sizes)
        return tensor("i32", bound.concrete()[0], pages) if is_page_table(value) else bound

    assert node.op is not None
    return node.op.cost(*(type_of(v) for v in node.inputs), **node.attrs)


def is_page_table(value: Value | None) -> bool:
    """Whether it is the step's input that says in which pages sequences lie."""
    return value is not None and value.node.leaf is not None and value.node.name == "page_table"
