"""The axes of an op's operands, by letter: T tokens, S sequences, N and K a weight's, H heads, E head width, ...

    axes = Axes("linear", ("x", "w", "bias"), {"x": "TK", "w": "NK", "bias": "N"})
    axes.sizes((f16[3,4096], q4_K[128,4096], None)) == {"T": 3, "K": 4096, "N": 128}

A letter stands for one size throughout a call. A digit stands for itself, and "." for an axis whose size tells nothing
of the work, as the pages of a pool. An operand that may have several ranks has several texts: ("TD", "THD"). An op that
declares no axes has them numbered: "x0", "x1".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forge.errors import GraphError
from forge.graph.types import TensorType

Letters = str | tuple[str, ...]


class Axes:
    """Letters of the operands of one op. Immutable."""

    def __init__(self, op: str, operands: Sequence[str], declared: Mapping[str, Letters] | None) -> None:
        self.op, self.operands = op, tuple(operands)
        self._texts = {n: (t,) if isinstance(t, str) else tuple(t) for n, t in (declared or {}).items()}
        for name, texts in self._texts.items():
            wrong = [
                c for text in texts for c in text if not (c.isascii() and (c.isupper() or c.isdigit() or c == "."))
            ]
            if name not in self.operands or wrong:
                raise GraphError(
                    f"op {op}: the axes of {name} are {'/'.join(texts)}: one capital letter, digit or . each"
                )
        if declared and (missing := [n for n in self.operands if n not in self._texts]):
            raise GraphError(f"op {op} declares no axes of {', '.join(missing)}")

    @property
    def letters(self) -> tuple[str, ...]:
        """Every letter declared, sorted; none where axes are numbered."""
        return tuple(sorted({c for texts in self._texts.values() for text in texts for c in text if c.isupper()}))

    def knows(self, axis: str) -> bool:
        """Whether an operand may have an axis of this name."""
        return axis in self.letters if self._texts else axis.rstrip("0123456789") in self.operands

    def sizes(self, types: Sequence[TensorType | None]) -> dict[str, int]:
        """The size of each axis, of concrete operand types. Raises GraphError where the letters contradict them."""
        found: dict[str, int] = {}
        for name, type in zip(self.operands, types, strict=True):
            if type is None:
                continue
            for axis, size in zip(self._names(name, type), type.concrete(), strict=True):
                expected = int(axis) if axis.isdigit() else found.setdefault(axis, size) if axis != "." else size
                if expected != size:
                    raise GraphError(f"op {self.op}: the axis {axis} is {expected}, but {size} in {name}: {type}")
        return found

    def _names(self, operand: str, type: TensorType) -> Sequence[str]:
        if not self._texts:
            return [f"{operand}{i}" for i in range(type.rank)]
        for text in self._texts[operand]:
            if len(text) == type.rank:
                return text
        raise GraphError(f"op {self.op}: {operand}: {type} has none of the axes {', '.join(self._texts[operand])}")
