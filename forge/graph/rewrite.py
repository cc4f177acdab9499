"""Rewriting: rebuild a graph with nodes replaced, and the fusion rules that follow from `equals`.

A fusion rule's pattern is the `equals` expression itself, traced with placeholders. A match may not create a cycle:
no operand of the fused call may depend on a node that the call replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from forge.errors import GraphError
from forge.graph.ir import Graph, Node, Value
from forge.graph.op import Op, trace_equals


@dataclass(frozen=True)
class Group:
    """Values of a graph that are made together: `build(new graph, new sources)` gives the new values of `covers`."""

    covers: tuple[Value, ...]
    sources: tuple[Value | None, ...]
    build: Callable[[Graph, tuple[Value | None, ...]], tuple[Value, ...]]


def rebuild(graph: Graph, groups: Iterable[Group] = ()) -> Graph:
    """A copy of what the outputs and updates of `graph` need, with each group built in its own way.

    Inputs and states are all kept. Works from the results backwards with an explicit stack, so that depth is no
    limit. Raises GraphError if a group depends on itself.
    """
    group_of = {value: group for group in groups for value in group.covers}
    new = Graph(graph.name)
    done: dict[Value, Value] = {}
    for leaf in (*graph.leaves("input"), *graph.leaves("state")):
        done[Value(leaf)] = _copy(leaf)(new, ())[0]
    expanded: set[int] = set()  # groups whose sources are being made: the path from a root to where we are
    stack = list(reversed(graph.roots))
    while stack:
        value = stack[-1]
        if value in done:
            stack.pop()
            continue
        group = group_of.get(value)
        if group is None:
            group = Group(value.node.outputs, value.node.inputs, _copy(value.node))
            group_of.update(dict.fromkeys(group.covers, group))
        missing = [v for v in group.sources if v is not None and v not in done]
        if missing and id(group) in expanded:
            raise GraphError(f"{value.node.label} would depend on itself", where=graph.name)
        if missing:
            expanded.add(id(group))
            stack.extend(reversed(missing))
            continue
        made = group.build(new, tuple(v and done[v] for v in group.sources))
        done.update(zip(group.covers, made, strict=True))
    for name, value in graph.outputs.items():
        new.output(name, done[value])
    for name, value in graph.updates.items():
        new.update(name, done[value])
    return new


def _copy(node: Node) -> Callable[[Graph, tuple[Value | None, ...]], tuple[Value, ...]]:
    """A build function that makes the same node in the new graph."""

    def build(new: Graph, operands: tuple[Value | None, ...]) -> tuple[Value, ...]:
        if node.op is None:
            assert node.leaf is not None
            return (new.leaf(node.leaf, node.types[0]),)
        return as_tuple(new.call(node.op, *operands, **node.attrs))

    return build


def as_tuple(made: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    """The results of a call as a tuple, however many they are."""
    return made if isinstance(made, tuple) else (made,)


@dataclass(frozen=True, eq=False)
class Pattern:
    """A node of an `equals` expression: an op with sub-patterns, or a placeholder (`op` is None, `name` is set)."""

    op: Op | None
    name: str
    inputs: tuple[Pattern | None, ...] = ()
    attrs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Placeholder:
    """Stands for an attribute of the fused op while its expression is traced."""

    name: str


@dataclass(frozen=True)
class Rule:
    """Fuse `results` (patterns, in the order of the fused op's outputs) into one call of `op`."""

    op: Op
    results: tuple[Pattern, ...]

    @property
    def root(self) -> Pattern:
        """The result that depends on all others: where matching starts."""
        inner = {id(p) for r in self.results for p in _below(r)}
        return next(r for r in self.results if id(r) not in inner)

    @property
    def size(self) -> int:
        """How many calls one match replaces."""
        return 1 + sum(p.op is not None for p in _below(self.root))


def rule_of(op: Op) -> Rule:
    """The fusion rule that an op's `equals` states. Only expressions of single-result ops can be patterns."""
    assert op.equals is not None

    def interpret(inner: Op, operands: tuple[Any, ...], attrs: Mapping[str, Any]) -> Pattern:
        return Pattern(inner, "", operands, attrs)

    operands = [Pattern(None, name) for name in op.operands]
    result = trace_equals(op.equals, operands, {n: Placeholder(n) for n in op.attributes}, interpret)
    results = result if isinstance(result, tuple) else (result,)
    rule = Rule(op, results)
    covered = {id(rule.root)} | {id(p) for p in _below(rule.root)}
    if any(id(r) not in covered for r in results):
        raise GraphError(f"{op.name}: one result of `equals` must depend on all others")
    return rule


def _below(pattern: Pattern) -> list[Pattern]:
    out: list[Pattern] = []
    stack = [p for p in pattern.inputs if p is not None]
    while stack:
        out.append(stack.pop())
        stack.extend(p for p in out[-1].inputs if p is not None)
    return out


@dataclass(eq=False)
class Match:
    """What a rule found: nodes for its op patterns, values for its placeholders, attributes for the fused call."""

    nodes: dict[int, Node]
    values: dict[str, Value | None]
    attrs: dict[str, Any]


def match(rule: Rule, node: Node) -> Match | None:
    """Match `rule` with its root at `node`, or None."""
    found = Match({}, {}, {})
    return found if _match(rule.root, Value(node), found) else None


def _match(pattern: Pattern | None, value: Value | None, found: Match) -> bool:
    if pattern is None or value is None:
        return pattern is None and value is None
    if pattern.op is None:
        return found.values.setdefault(pattern.name, value) == value
    node = value.node
    if node.op is not pattern.op or found.nodes.setdefault(id(pattern), node) is not node:
        return False
    assert pattern.attrs is not None
    for key, wanted in pattern.attrs.items():
        have = node.attrs[key]
        if isinstance(wanted, Placeholder):
            if found.attrs.setdefault(wanted.name, have) != have:
                return False
        elif wanted != have:
            return False
    return all(_match(p, v, found) for p, v in zip(pattern.inputs, node.inputs, strict=True))


def fuse(graph: Graph, rule: Rule) -> Graph:
    """Apply `rule` wherever it matches and stays free of cycles; matches do not overlap."""
    users = graph.users()
    outputs = {v.node for v in graph.roots}
    results = {id(p) for p in rule.results}
    groups: list[Group] = []
    taken: dict[Node, Match] = {}
    for node in graph.nodes:
        found = match(rule, node) if node.op is rule.root.op else None
        if found is None:
            continue
        inside = set(found.nodes.values())
        hidden = [n for key, n in found.nodes.items() if key not in results]
        seen_outside = any(n in outputs or any(u not in inside for u in users[n]) for n in hidden)
        if inside & taken.keys() or seen_outside or _cyclic(inside, found, taken):
            continue
        taken |= dict.fromkeys(inside, found)
        groups.append(_fused(rule, found))
    return rebuild(graph, groups) if groups else graph


def _fused(rule: Rule, found: Match) -> Group:
    """The group in which a match becomes one call of the rule's op."""

    def build(new: Graph, operands: tuple[Value | None, ...]) -> tuple[Value, ...]:
        return as_tuple(new.call(rule.op, *operands, **found.attrs))

    covers = tuple(Value(found.nodes[id(p)]) for p in rule.results)
    return Group(covers, tuple(found.values.get(n) for n in rule.op.operands), build)


def _cyclic(inside: set[Node], found: Match, taken: Mapping[Node, Match]) -> bool:
    """Whether an operand of the fused call depends on a node that the call replaces.

    `taken` are the nodes of matches already accepted: each depends on all that its fused call will depend on.
    """
    floor = min(n.number for n in inside)
    for other in reversed(list(dict.fromkeys(taken.values()))):
        numbers = [n.number for n in other.nodes.values()]
        if max(numbers) < floor:
            break  # it, and those before it, lie wholly before every node that could lead back
        floor = min(floor, *numbers)
    stack = [v.node for v in found.values.values() if v is not None]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in inside:
            return True
        if node not in seen and node.number >= floor:
            seen.add(node)
            sources = taken[node].values.values() if node in taken else node.inputs
            stack.extend(v.node for v in sources if v is not None)
    return False
