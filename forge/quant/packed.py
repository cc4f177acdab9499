"""A tensor of a quantized type as the kernels read it: its planes, not its file bytes.

Planes put what a kernel loads together side by side: the low bits of all codes, the high bits, the group scales and
the block scales. They hold exactly the file's bits, rearranged; `forge/quant/format.py` says how for each type.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from forge.errors import UnsupportedError
from forge.graph.types import DType, TensorType

ROWS = "rows"  # the layout of `forge/quant/format.py`


@dataclass(frozen=True)
class Packed:
    """Planes of a tensor of a quantized type, by name; `table` is what their numbers stand for, if the type has one.

    Immutable. `operand` is how a kernel is given it.
    """

    type: TensorType
    planes: Mapping[str, Any]
    layout: str = ROWS
    table: Any = None

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
        return sum(p.numel() * p.element_size() for p in self.operand(self.layout))

    def require(self, layout: str) -> None:
        """Raise UnsupportedError if the planes are in another layout than whoever reads them understands."""
        if self.layout != layout:
            raise UnsupportedError(
                f"{self.type} is stored in the layout {self.layout!r}; what reads it takes {layout!r}",
                remedy="store the weight in a layout that the kernel declares (`layouts=`)",
            )

    def operand(self, layout: str = ROWS) -> tuple[Any, ...]:
        """The planes and the table as one argument of a kernel that reads `layout`: a tuple with their names.

        Raises UnsupportedError for planes in another layout.
        """
        self.require(layout)
        tensors = dict(self.planes) if self.table is None else {**self.planes, "table": self.table}
        named: tuple[Any, ...] = planes_of(*tensors)(**tensors)
        return named

    def rows(self, ids: Any) -> Packed:
        """The rows of a two-axis tensor that `ids` (integers [R]) name. An id out of range is torch's IndexError."""
        self.require(ROWS)
        type = TensorType((ids.shape[0], self.shape[1]), self.dtype)
        return Packed(type, {n: p.index_select(0, ids) for n, p in self.planes.items()}, self.layout, self.table)

    def to(self, device: Any) -> Packed:
        table = None if self.table is None else self.table.to(device)
        return Packed(self.type, {n: p.to(device) for n, p in self.planes.items()}, self.layout, table)


@lru_cache(maxsize=64)
def planes_of(*names: str) -> Any:
    """The type of a tuple of planes with these names: one for equal names, so that kernels are told apart by them."""
    return namedtuple("Planes", names)
