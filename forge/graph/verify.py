"""The grammar of a graph. Passes are checked with it after each step."""

from __future__ import annotations

from forge.errors import GraphError
from forge.graph.ir import Graph, Node, types_of
from forge.graph.types import StateType


def verify(graph: Graph) -> Graph:
    """Return `graph`, or raise GraphError that names the node which breaks a rule.

    1. A node comes after its operands, and all are of this graph: there is no cycle.
    2. A call's result types are those its op infers from its operands.
    3. State is used linearly: a version has one writer at most, and a version that is written over has no other user.
       Each state that is written has an `update` naming its last version.
    4. Outputs and updates are values of the graph; an update has the type of its state.
    """
    for number, node in enumerate(graph.nodes):
        if node.number != number or node.graph is not graph:
            raise GraphError(f"{node.label} stands at place {number} of another graph's list", where=graph.name)
        for value in node.inputs:
            if value is not None and (value.node.graph is not graph or value.node.number >= number):
                raise GraphError(f"{node.label} uses {value!r}, which does not come before it", where=graph.name)
        if node.op is not None:
            _check_types(node)
    for value in graph.roots:
        if value.node.graph is not graph:
            raise GraphError(f"an output is {value!r} of another graph", where=graph.name)
    _check_state(graph)
    _ = graph.symbols  # one bound for each symbol
    return graph


def _check_types(node: Node) -> None:
    assert node.op is not None
    types = node.op.infer(types_of(node.inputs), node.attrs)
    if types != node.types:
        raise GraphError(
            f"{node.label} has the types {', '.join(map(str, node.types))}; {node.op.name} gives "
            f"{', '.join(map(str, types))}"
        )


def writes(node: Node) -> int | None:
    """The index of the state operand that a call consumes, or None."""
    return node.op.operands.index(node.op.writes) if node.op and node.op.writes else None


def _check_state(graph: Graph) -> None:
    readers: dict[tuple[Node, int], list[Node]] = {}
    written: dict[tuple[Node, int], Node] = {}
    for node in graph.calls():
        index = writes(node)
        for i, value in enumerate(node.inputs):
            if value is None or not isinstance(value.type, StateType):
                continue
            key = (value.node, value.index)
            if i != index:
                readers.setdefault(key, []).append(node)
            elif key in written:
                raise GraphError(f"{value!r} is written twice, by {written[key].label} and {node.label}")
            else:
                written[key] = node
        if index is not None and not isinstance(node.types[0], StateType):
            raise GraphError(f"{node.label} writes state and so must return its next version first")
    for key, node in written.items():
        if key in readers:
            raise GraphError(f"{readers[key][0].label} reads {key[0].label} after {node.label} has written over it")
    _check_updates(graph, {(v.node, v.index) for v in graph.updates.values()}, written)


def _check_updates(graph: Graph, last: set[tuple[Node, int]], written: dict[tuple[Node, int], Node]) -> None:
    states = {n.name: n for n in graph.leaves("state")}
    for name, value in graph.updates.items():
        if name not in states or states[name].types[0] != value.type:
            raise GraphError(f"update of {name} by {value!r}, which is no version of that state", where=graph.name)
        if (value.node, value.index) in written:
            raise GraphError(f"update of {name} names {value!r}, which is written over later", where=graph.name)
    for node in written.values():
        key = (node, 0)
        if key not in written and key not in last:
            raise GraphError(f"{node.label} writes state that no update names", where=graph.name)
