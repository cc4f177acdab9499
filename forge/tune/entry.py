"""An entry of the tuning store: which calls it fits, the kernel and configuration it gives them, and on what evidence.

    {"fits": {"T": "<=8", "N": [4096, 6144], "x": "a8", "w": "q4_K"},
     "kernel": "linear_gemv", "config": {"ROWS": 2, "BLOCK_K": 2048, "STAGES": 1, "num_warps": 2},
     "evidence": {"kind": "measured", "device": "H200", "us": {"4096x4096": 4.4}, "triton": "3.6.0"}}

`fits` names fields of the key (`forge.tune.key`): operands by their element type, axes, quotients of two axes ("T/S"),
attributes, `compute_units`; what each may demand stands in `forge.tune.condition`. What is left out may be anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forge.errors import FileFormatError, GraphError
from forge.graph.op import Call, Kernel, Op
from forge.tune.condition import Among, Condition, Within, element_types, numbers
from forge.tune.key import COUNTS, Key, timed_operands

COMPOSED = "equals"  # in place of a kernel's name: a fused op is carried out by the kernels of what it equals
EVIDENCE = ("measured", "modelled", "compiled")
LENDING = frozenset("NK") | frozenset(COUNTS)  # axes along which an entry may serve a call that it doesn't fit


@dataclass(frozen=True)
class Entry:
    """Immutable. `kernel` is None for what is better composed from its `equals`; `config` is None for the kernel's own
    default, as rules may have it."""

    kernel: Kernel | None
    fits: Mapping[str, Condition]
    config: Mapping[str, Any] | None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def fit(self, key: Key) -> bool:
        """Whether everything that the entry demands holds."""
        return all(self._holds(name, key) for name in self.fits)

    def fits_counts(self, key: Key) -> bool:
        """Whether what the entry demands of counts holds: of tokens, sequences, ..., and their quotients."""
        return all(self._holds(name, key) for name in self.fits if set(name.split("/")) & set(COUNTS))

    def octaves(self, key: Key) -> float | None:
        """How far the call's sizes are from those that fit, summed over axes; None where anything else differs."""
        total = 0.0
        for name, condition in self.fits.items():
            if not self._holds(name, key):
                value = _value(name, key)
                if value is None or not isinstance(condition, Within) or not LENDING.issuperset(name.split("/")):
                    return None
                total += condition.octaves(value, count=name in COUNTS)
        return total

    def serves(self, call: Call) -> bool:
        """Whether the kernel, at the entry's configuration, can carry out the call."""
        if self.kernel is None:
            return True
        return self.kernel.serves(call) and (self.config is None or self.kernel.space.valid(self.config, call))

    def meets(self, other: Entry) -> bool:
        """Whether some key fits both."""
        return all(self.fits[name].meets(other.fits[name]) for name in self.fits.keys() & other.fits.keys())

    def _holds(self, name: str, key: Key) -> bool:
        value = _value(name, key)
        return value is not None and self.fits[name].holds(value)


def _value(name: str, key: Key) -> Any:
    """The call's own value of a field, or the quotient of two; None where it has no such axis."""
    if name in key.actual:
        return key.actual[name]
    above, _, below = name.partition("/")
    if above in key.actual and key.actual.get(below):
        return key.actual[above] / key.actual[below]
    return None


def read(path: Path, op: Op, *, rules: bool) -> tuple[Entry, ...]:
    """The entries of a file of `op`. Raises FileFormatError that names the file and the entry.

    Of `rules` the configuration and the evidence may be left out, as they choose a kernel alone.
    """
    try:
        raws = json.loads(path.read_text(), object_pairs_hook=_unique)
    except ValueError as error:
        raise FileFormatError(f"a tuning file is not JSON: {error}", where=str(path)) from error
    if not isinstance(raws, list):
        raise FileFormatError("a tuning file holds a list of entries", where=str(path))
    entries: list[Entry] = []
    for number, raw in enumerate(raws, 1):
        where = f"{path}, entry {number} {json.dumps(raw)[:120]}"
        try:
            entry = _entry(raw, op, rules)
        except GraphError as error:
            raise FileFormatError(error.what, where=where, remedy=error.remedy) from error
        for before, other in enumerate(entries, 1):
            if len(entry.fits) == len(other.fits) and entry.meets(other):
                raise FileFormatError(
                    f"entries {before} and {number} fit one key, and demand equally much of it",
                    where=where,
                    remedy="narrow one of them, so that it alone fits, or the one that says more is taken",
                )
        entries.append(entry)
    return tuple(entries)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a name that stands twice, Python's reader would take the last in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name stands twice in {json.dumps([name for name, _ in pairs])}")
    return found


def _entry(raw: Any, op: Op, rules: bool) -> Entry:
    if not isinstance(raw, dict):
        raise GraphError("an entry is an object of fits, kernel, config and evidence")
    if unknown := raw.keys() - {"fits", "kernel", "config", "evidence"}:
        raise GraphError(f"an entry has no {', '.join(sorted(unknown))}", remedy="fits, kernel, config, evidence")
    kernel, config = _kernel(raw.get("kernel"), op), raw.get("config")
    if kernel is None and config:
        raise GraphError(f"the entry gives a config, but {COMPOSED!r} has none")
    if kernel is not None and ("config" in raw or not rules):
        if not isinstance(config, dict):
            raise GraphError(f"the entry gives no config, which names {', '.join(kernel.space.choices)}")
        kernel.space.check(config)
    evidence = raw.get("evidence", {})
    if (evidence or not rules) and (not isinstance(evidence, dict) or evidence.get("kind") not in EVIDENCE):
        raise GraphError(f"the entry has no evidence of kind {', '.join(EVIDENCE)}")
    if evidence and evidence["kind"] == "measured" and not _timed(evidence.get("us")):
        raise GraphError("the entry was measured, and gives no time", remedy='"us": {"4096x4096": 4.4}, microseconds')
    if not isinstance(fits := raw.get("fits"), dict):
        raise GraphError("the entry does not say what it fits", remedy='"fits": {...}; {} fits every call')
    return Entry(kernel, {n: _condition(n, v, op) for n, v in fits.items()}, config, evidence)


def _timed(us: Any) -> bool:
    """Whether these are microseconds: a number, or an object of them."""
    times = list(us.values()) if isinstance(us, dict) else [us]
    return bool(times) and all(type(t) in (int, float) and 0 < t < math.inf for t in times)


def _kernel(name: Any, op: Op) -> Kernel | None:
    if name == COMPOSED and op.equals:
        return None
    if name not in op.kernels:
        known = ", ".join((*op.kernels, *([COMPOSED] if op.equals else [])))
        raise GraphError(f"{op.name} has no kernel {name!r}", remedy=f"one of: {known}")
    return op.kernels[name]


def _condition(name: str, stated: Any, op: Op) -> Condition:
    try:
        if name in timed_operands(op):
            return element_types(stated)
        if name in op.attributes:
            return _attribute(name, stated, op)
        if name == "compute_units":
            return numbers(stated)
        axes = name.split("/")
        if len(axes) <= 2 and all(op.axes.knows(a) for a in axes):
            return numbers(stated, count=name in COUNTS)
    except GraphError as error:
        raise GraphError(f"fits {name}: {error.what}", remedy=error.remedy) from error
    known = (*timed_operands(op), *op.axes.letters, *op.attributes, "compute_units")
    raise GraphError(f"{op.name} has no operand, axis or attribute {name!r}", remedy=f"one of: {', '.join(known)}")


def _attribute(name: str, stated: Any, op: Op) -> Condition:
    """What an attribute must be: of a type, and of texts one, that the op's default or one of its cases has."""
    seen = {type(v): v for v in _values(name, op)}
    items = stated if isinstance(stated, list) else [stated]
    if not items:
        raise GraphError("an empty list fits nothing")
    if seen.keys() <= {int, float} and all(not isinstance(i, bool) for i in items):
        return numbers(stated)
    texts = {v for v in _values(name, op) if isinstance(v, str)}
    for item in items:
        if type(item) not in seen or (isinstance(item, str) and item not in texts):
            known = ", ".join(sorted({repr(v) for v in _values(name, op)}))
            raise GraphError(f"{item!r} is no value of it", remedy=f"as in its cases: {known}")
    return Among.of(*items)


def _values(name: str, op: Op) -> Iterator[Any]:
    default = op.signature.parameters[name].default
    if default is not op.signature.empty:
        yield default
    yield from {c.attrs[name] for c in op.cases if name in c.attrs}
