"""Rewriting: rebuild a graph with nodes replaced, and expand fused calls into what they equal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from forge.errors import GraphError
from forge.graph.ir import Graph, Node, Value


@dataclass(frozen=True)
class Group:
    """Values of a graph that are made together: `build(new graph, new sources)` gives the new values of `covers`."""

    covers: tuple[Value, ...]
    sources: tuple[Value | None, ...]
    build: Callable[[Graph, tuple[Value | None, ...]], tuple[Value, ...]]


def rebuild(graph: Graph, groups: Iterable[Group] = ()) -> Graph:
    """A copy of what the outputs and updates of `graph` need, with each group built in its own way.

    Inputs and states are all kept. Works from the results backwards with an explicit stack, so that depth is no
    limit. Raises GraphError if a group depends on itself, or gives a value another type.
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
        for old, new_value in zip(group.covers, made, strict=True):
            if new_value.type != old.type:
                raise GraphError(f"{old!r} would become {new_value!r}, of another type", where=graph.name)
            done[old] = new_value
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


def expand(graph: Graph, wanted: Callable[[Node], bool]) -> Graph:
    """The graph with each fused call that is `wanted` replaced by the expression it equals, all the way down.

    Calls of several expressions that are equal become one. A call for which `wanted` says no is kept whole.
    """
    while groups := [_expanded(n) for n in graph.calls() if n.op is not None and n.op.equals and wanted(n)]:
        graph = rebuild(graph, groups)
    return graph


def _expanded(node: Node) -> Group:
    def build(new: Graph, operands: tuple[Value | None, ...]) -> tuple[Value, ...]:
        assert node.op is not None and node.op.equals is not None
        return as_tuple(node.op.equals(*operands, **node.attrs))

    return Group(node.outputs, node.inputs, build)
