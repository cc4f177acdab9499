"""A tensor of a block type as the kernels read it: its planes, not its file bytes.

Planes put what a kernel loads together side by side: the low bits of all codes, the high bits, the group scales and
the block scales. They hold exactly the file's bits, rearranged; `forge/quant/format.py` says how for each type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forge.graph.types import DType, TensorType

PLANES = ("q", "h", "s", "d")


@dataclass(frozen=True)
class Packed:
    """Planes of a block-typed tensor: `q` low bits, `h` high bits, `s` group scales, `d` block scales.

    Immutable; whoever consumes it checks `type` and `layout`. Quantized activations are Packed too: a value of "a8" is
    d * q, of "a16" d * (q + h / 256), with the planes `q` and `h` (four int8 codes a word), `d` (f32 scale a group of
    32) and `s` (f32 sum of the group's values).
    """

    type: TensorType
    planes: Mapping[str, Any]
    layout: str = "rows"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.concrete()

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def device(self) -> Any:
        return self.planes["q"].device

    @property
    def nbytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.planes.values())

    def pointers(self) -> tuple[Any, Any, Any, Any]:
        """The four planes in the order q, h, s, d; an absent plane is given as q, and never read."""
        q = self.planes["q"]
        return tuple(self.planes.get(name, q) for name in PLANES)

    def rows(self, ids: Any) -> Packed:
        """The rows of a two-axis tensor that `ids` (integers [R]) name. An id out of range is torch's IndexError."""
        type = TensorType((ids.shape[0], self.shape[1]), self.dtype)
        return Packed(type, {n: p.index_select(0, ids) for n, p in self.planes.items()}, self.layout)

    def to(self, device: Any) -> Packed:
        return Packed(self.type, {n: p.to(device) for n, p in self.planes.items()}, self.layout)
