"""Fusion rules: the `equals` expression of a fused op as a pattern, and what of a graph matches it.

A pattern is the expression traced with placeholders, down to ops that are not fused themselves. It may have several
results that do not depend on each other, and ops of several results. Each optional operand is there or not: one rule
for each way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from forge.errors import GraphError
from forge.graph.equals import Attribute, trace_equals
from forge.graph.ir import Node, Value
from forge.graph.op import Op
from forge.graph.parameters import same


@dataclass(frozen=True, eq=False)
class Pattern:
    """A call of `op` in the expression, or the operand `name` of the fused op (then `op` is None)."""

    op: Op | None
    name: str = ""
    inputs: tuple[Ref | None, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def below(self) -> list[Pattern]:
        """The calls that this one is made from, itself included."""
        found, stack = dict[int, Pattern](), [self]
        while stack:
            pattern = stack.pop()
            if pattern.op is not None and id(pattern) not in found:
                found[id(pattern)] = pattern
                stack += [ref.pattern for ref in pattern.inputs if ref is not None]
        return list(found.values())


@dataclass(frozen=True)
class Ref:
    """Result `index` of a pattern."""

    pattern: Pattern
    index: int = 0


@dataclass(frozen=True, eq=False)
class Rule:
    """Fuse `results`, in the order of the fused op's, into one call of `op`; the operands in `absent` are None.

    `roots` are the calls that nothing else in the pattern reads, the largest first: where matching starts.
    """

    op: Op
    absent: tuple[str, ...]
    results: tuple[Ref, ...]
    roots: tuple[Pattern, ...]
    size: int  # calls that a match replaces

    def agrees(self, found: Match) -> bool:
        """Whether the expression is the one matched at the attributes found, and computes those of the nodes found."""
        twin = _trace(self.op, self.absent, found.attrs)
        if len(twin) != len(self.results):
            return False
        pairs: list[tuple[Ref | None, Ref | None]] = list(zip(self.results, twin, strict=True))
        while pairs:
            ours, exact = pairs.pop()
            if ours is None or exact is None:
                if ours is not exact:
                    return False
                continue
            a, b = ours.pattern, exact.pattern
            if (a.op, a.name, ours.index) != (b.op, b.name, exact.index):
                return False
            if a.op is not None and not all(same(found.nodes[id(a)].attrs[k], v) for k, v in b.attrs.items()):
                return False
            pairs += zip(a.inputs, b.inputs, strict=True)
        return True


@dataclass(eq=False)
class Match:
    """What a rule found: nodes for its calls, values for the fused op's operands, and its attributes."""

    rule: Rule
    nodes: dict[int, Node] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def results(self) -> tuple[Value, ...]:
        return tuple(Value(self.nodes[id(ref.pattern)], ref.index) for ref in self.rule.results)

    @property
    def operands(self) -> tuple[Value | None, ...]:
        return tuple(self.values.get(name) for name in self.rule.op.operands)

    def copy(self) -> Match:
        return Match(self.rule, dict(self.nodes), dict(self.values), dict(self.attrs))


@cache
def rules_of(op: Op) -> tuple[Rule, ...]:
    """The rules that an op's `equals` states. Raises GraphError, naming the op, for one that states none."""
    ways = [
        absent for n in range(len(op.optional) + 1) for absent in itertools.combinations(op.optional, n)
    ]  # those with the most operands first
    return tuple(_rule(op, absent) for absent in ways)


def _rule(op: Op, absent: tuple[str, ...]) -> Rule:
    attrs = {name: Attribute(name) for name in op.attributes}
    try:
        results = _trace(op, absent, attrs)
    except Exception as error:  # somebody's expression may raise anything
        told = error.what if isinstance(error, GraphError) else f"{type(error).__name__}: {error}"
        raise GraphError(f"op {op.name}: its `equals` cannot be a rule: {told}", where=op.module) from error
    calls = tuple({id(p): p for ref in results for p in ref.pattern.below()}.values())
    read = {id(ref.pattern) for p in calls for ref in p.inputs if ref is not None}
    roots = tuple(sorted((p for p in calls if id(p) not in read), key=lambda p: -len(p.below())))
    if any(ref.pattern.op is None for ref in results):
        raise GraphError(f"op {op.name}: its `equals` gives an operand back as it is", where=op.module)
    _check_writes(op, calls)
    _check_bound(op, absent, calls)
    return Rule(op, absent, results, roots, len(calls))


def _check_writes(op: Op, calls: Sequence[Pattern]) -> None:
    """A state that a call of the expression writes is one that the fused op says it writes."""
    for pattern in calls:
        if pattern.op is None or pattern.op.writes is None:
            continue
        written = pattern.inputs[pattern.op.operands.index(pattern.op.writes)]
        if written is not None and written.pattern.op is None and written.pattern.name != op.writes:
            raise GraphError(
                f"op {op.name}: its `equals` writes {written.pattern.name}, and the op does not say so",
                where=op.module,
                remedy=f"writes={written.pattern.name!r}",
            )


def _check_bound(op: Op, absent: tuple[str, ...], calls: Sequence[Pattern]) -> None:
    """A match tells every operand that is there, and every attribute that has no default."""
    operands = {ref.pattern.name for p in calls for ref in p.inputs if ref is not None} | set(absent)
    attributes = {name for p in calls for v in p.attrs.values() for name in _read(v)}
    parameters = op.signature.parameters
    attributes |= {name for name in op.attributes if parameters[name].default is not op.signature.empty}
    ignored = [n for n in op.operands if n not in operands] + [n for n in op.attributes if n not in attributes]
    if ignored:
        raise GraphError(
            f"op {op.name}: its `equals` ignores {', '.join(ignored)}",
            where=op.module,
            remedy="use each operand, and give each attribute to an op as it is at least once: it is read off there",
        )


def _trace(op: Op, absent: Sequence[str], attrs: Mapping[str, Any]) -> tuple[Ref, ...]:
    """The results of `equals` as patterns; equal calls are one pattern, as in a graph they would be one node."""
    known: dict[Any, Pattern] = {}

    def interpret(inner: Op, operands: tuple[Ref | None, ...], attrs: Mapping[str, Any]) -> Any:
        if inner.equals is not None:
            results = trace_equals(inner.equals, operands, attrs, interpret)
            return results if len(results) > 1 else results[0]
        shown = tuple((k, v.text if isinstance(v, Attribute) else repr(v)) for k, v in attrs.items())
        key = (inner, tuple(ref and (id(ref.pattern), ref.index) for ref in operands), shown)
        pattern = known.setdefault(key, Pattern(inner, "", operands, attrs))
        refs = tuple(Ref(pattern, i) for i in range(inner.results))
        return refs if len(refs) > 1 else refs[0]

    assert op.equals is not None
    operands = [None if name in absent else Ref(Pattern(None, name)) for name in op.operands]
    return trace_equals(op.equals, operands, attrs, interpret)


def matches(rule: Rule, anchor: Node, nodes_of: Callable[[Op], Sequence[Node]]) -> Iterator[Match]:
    """Every way in which `rule` matches with its first root at `anchor`; the others are sought nearest first.

    `nodes_of` gives a graph's calls of an op.
    """
    found = Match(rule)
    if not _fits(rule.roots[0], anchor, found):
        return
    for whole in _extended(found, rule.roots[1:], anchor, nodes_of):
        attrs = {n: p.default for n, p in rule.op.signature.parameters.items() if n in rule.op.attributes}
        whole.attrs = attrs | whole.attrs
        if rule.agrees(whole):
            yield whole


def _extended(
    found: Match, roots: tuple[Pattern, ...], anchor: Node, nodes_of: Callable[[Op], Sequence[Node]]
) -> Iterator[Match]:
    if not roots:
        yield found
        return
    assert roots[0].op is not None
    for node in sorted(nodes_of(roots[0].op), key=lambda n: abs(n.number - anchor.number)):
        longer = found.copy()
        if node not in found.nodes.values() and _fits(roots[0], node, longer):
            yield from _extended(longer, roots[1:], anchor, nodes_of)


def _fits(pattern: Pattern, node: Node, found: Match) -> bool:
    """Whether `node` is what `pattern` describes, given what is found already; adds to that."""
    if node.op is not pattern.op or found.nodes.setdefault(id(pattern), node) is not node:
        return False
    if not all(_binds(wanted, node.attrs[key], found.attrs) for key, wanted in pattern.attrs.items()):
        return False
    for ref, value in zip(pattern.inputs, node.inputs, strict=True):
        if ref is None or value is None:
            if ref is not None or value is not None:
                return False
        elif ref.pattern.op is None:
            if found.values.setdefault(ref.pattern.name, value) != value:
                return False
        elif ref.index != value.index or not _fits(ref.pattern, value.node, found):
            return False
    return True


def _binds(wanted: Any, have: Any, bound: dict[str, Any]) -> bool:
    """Whether `have` is the value that the expression gives to an attribute; `bound` notes what the fused op's are."""
    if isinstance(wanted, Attribute):
        return wanted.computed or same(bound.setdefault(wanted.text, have), have)
    if isinstance(wanted, tuple) and isinstance(have, tuple):
        return len(wanted) == len(have) and all(_binds(w, h, bound) for w, h in zip(wanted, have, strict=True))
    return same(wanted, have)


def _read(value: Any) -> Iterator[str]:
    """The attributes of the fused op that an attribute's value has as they are, by itself or in a tuple."""
    if isinstance(value, Attribute):
        yield value.text
    elif isinstance(value, tuple):
        for element in value:
            yield from _read(element)
