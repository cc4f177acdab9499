"""What an entry of the store demands of one field of a key: one of several values, or a range of numbers.

- `4096`: that size; of a count (tokens, sequences, ...) its bucket: 8 is 5 to 8.
- `"<=8"`, `">8"`, `">=512"`, `"5..16"` (with both its ends): a range, of the call's own size and not of its
  bucket.
- `"q4_K"`, `true`: that element type, or that value of an attribute.
- `"quantized"`: all block types; `"activation"`: a8 and a16; `"floating"`: those that are floating point.
- `[4096, 6144]`: any of these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from forge.errors import GraphError
from forge.graph.types import DTYPES, DType
from forge.tune.key import bucket

CLASSES: Mapping[str, Callable[[DType], bool]] = {
    "activation": lambda t: t.activation,
    "quantized": lambda t: t.quantized and not t.activation,
    "floating": lambda t: t.floating,
}


@dataclass(frozen=True)
class Among:
    """The value is one of these, of the same type: `true` is not 1."""

    values: frozenset[tuple[type, Any]]

    @staticmethod
    def of(*values: Any) -> Among:
        return Among(frozenset((type(v), v) for v in values))

    def holds(self, value: Any) -> bool:
        return (type(value), value) in self.values

    def meets(self, other: Condition) -> bool:
        return isinstance(other, Among) and bool(self.values & other.values)


@dataclass(frozen=True)
class Within:
    """The number lies in one of these ranges; an end that is not in its range is marked as open."""

    ranges: tuple[Range, ...]

    def holds(self, value: float) -> bool:
        return any(r.holds(value) for r in self.ranges)

    def meets(self, other: Condition) -> bool:
        return isinstance(other, Within) and any(a.meets(b) for a in self.ranges for b in other.ranges)

    def octaves(self, value: float, *, count: bool = False) -> float:
        """How far `value` is from the nearest range: |log2| of their quotient, of counts that of their buckets."""
        return min(r.octaves(value, bucket if count else float) for r in self.ranges)


@dataclass(frozen=True)
class Range:
    low: float
    high: float
    open_low: bool = False

    def holds(self, value: float) -> bool:
        return (self.low < value if self.open_low else self.low <= value) and value <= self.high

    def meets(self, other: Range) -> bool:
        low = max(self.low, other.low)
        high = min(self.high, other.high)
        opened = any(r.open_low and r.low == low for r in (self, other))
        return low < high or (low == high and not opened)

    def octaves(self, value: float, rounded: Callable[[Any], float]) -> float:
        if self.holds(value):
            return 0.0
        end = self.high if value > self.high else self.low
        return abs(math.log2(max(rounded(value), 1e-9) / max(rounded(end), 1e-9)))


Condition = Among | Within  # of one field, conditions are of one kind; `meets` is whether some value satisfies both


def numbers(stated: Any, *, count: bool = False) -> Within:
    """The condition that a number, a text such as "<=8", or a list of them states. Raises GraphError for anything else.

    Of a `count` a number is its bucket, which it must name: 8, not 6.
    """
    items = stated if isinstance(stated, list) else [stated]
    if not items:
        raise GraphError("an empty list fits nothing")
    return Within(tuple(_range(item, count) for item in items))


def _range(item: Any, count: bool) -> Range:
    if isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item):
        if not count:
            return Range(item, item)
        if item != bucket(int(item)):
            raise GraphError(f"{item} is no bucket", remedy=f"{bucket(int(item))}, or a range")
        return Range(item // 2 + 1, item)
    number = r"(\d+(?:\.\d+)?)"
    if isinstance(item, str):
        if found := re.fullmatch(rf"(<=|>=|>){number}", item):
            sign, end = found[1], _number(found[2])
            if sign == "<=":
                return Range(-math.inf, end)
            return Range(end + 1, math.inf) if sign == ">" and count else Range(end, math.inf, open_low=sign == ">")
        if (found := re.fullmatch(rf"{number}\.\.{number}", item)) and _number(found[1]) <= _number(found[2]):
            return Range(_number(found[1]), _number(found[2]))
    raise GraphError(f"{item!r} is no size", remedy='a number, "<=8", ">8", ">=512", "5..16", or a list of them')


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)


def element_types(stated: Any) -> Among:
    """The condition that an element type, a class of them or a list states. Raises GraphError for an unknown one."""
    if stated == []:
        raise GraphError("an empty list fits nothing")
    found: set[str] = set()
    for item in stated if isinstance(stated, list) else [stated]:
        if not isinstance(item, str) or (item not in DTYPES and item not in CLASSES):
            raise GraphError(f"unknown element type {item!r}", remedy=f"one of: {', '.join((*CLASSES, *DTYPES))}")
        found |= {n for n, t in DTYPES.items() if CLASSES[item](t)} if item in CLASSES else {item}
    return Among.of(*found)
