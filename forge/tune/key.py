"""`Key`: what tuning tells calls apart by, derived from the call.

    linear x=a16 w=q4_K T<=8 K=4096 N=28672 out=f16 on sm_90 with 132 CUs

Sizes that change from step to step (`COUNTS`: tokens, sequences, rows, context, pages a sequence) enter by bucket, all
others as they are. Element types are those of the operands that carry the work: an optional operand (a bias) and
indices do not enter, so a linear with a bias has the key of one without. A fraction among the attributes (eps, scale,
softcap) is a number that kernels compute with: it enters only as 0 or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from forge.graph.op import Call, Op

COUNTS = "TSRCM"
UNTIMED = ("i32", "i64")  # element types of indices


@dataclass(frozen=True)
class Key:
    """Equal for calls that tuning does not tell apart. Immutable and hashable; `str` is its readable form."""

    op: str
    types: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[str, int], ...]
    attrs: tuple[tuple[str, Any], ...]
    arch: str
    compute_units: int
    actual: Mapping[str, Any] = field(compare=False, repr=False)
    """Every field with the call's own value, before counts are bucketed and fractions left out."""

    @property
    def fields(self) -> dict[str, Any]:
        """Every field by the name that an entry of the store calls it by."""
        return dict(self.types) | dict(self.sizes) | dict(self.attrs) | {"compute_units": self.compute_units}

    def __str__(self) -> str:
        parts = [self.op, *(f"{n}={v}" for n, v in self.types)]
        parts += (f"{n}<={v}" if n in COUNTS else f"{n}={v}" for n, v in self.sizes)
        parts += (f"{n}={v}" for n, v in self.attrs)
        return f"{' '.join(parts)} on {self.arch} with {self.compute_units} CUs"


def key_of(call: Call) -> Key:
    """The key of a call of concrete types. Raises GraphError where its op's axes contradict them."""
    sizes = call.op.axes.sizes(call.types)
    found = {n: t.dtype.name for n, t in zip(call.op.operands, call.types, strict=True) if t is not None}
    types = {n: found[n] for n in timed_operands(call.op) if found[n] not in UNTIMED}
    units = call.target.compute_units
    return Key(
        call.op.name,
        tuple(types.items()),
        tuple((n, bucket(v) if n in COUNTS else v) for n, v in sorted(sizes.items(), key=_order)),
        tuple((n, v) for n, v in sorted(call.attrs.items()) if not isinstance(v, float) or v == 0),
        call.target.arch,
        units,
        {**types, **sizes, **call.attrs, "compute_units": units},
    )


@cache
def timed_operands(op: Op) -> tuple[str, ...]:
    """Operands whose element types enter the key: all but biases and others that may be absent."""
    return tuple(n for n in op.operands if n not in op.optional and op.roles.get(n) != "bias")


def bucket(count: int) -> int:
    """The power of two that stands for `count`: the least that is not below it."""
    return 1 << max(count - 1, 0).bit_length()


def _order(item: tuple[str, int]) -> tuple[int, str]:
    """What changes from step to step first, then by the alphabet."""
    name = item[0]
    return (COUNTS.index(name) if name in COUNTS else len(COUNTS)), name
