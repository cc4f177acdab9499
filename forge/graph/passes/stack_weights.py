"""Calls that read the same activation become one, with their weights stacked."""

from __future__ import annotations

from forge.graph.ir import Graph, Node, Value
from forge.graph.parameters import exact
from forge.graph.passes.options import Options
from forge.graph.rewrite import Group, rebuild
from forge.graph.types import TensorType


def stack_weights(graph: Graph, options: Options) -> Graph:
    """y_i = f(x, W_i, b_i) for weights of one type and width, all with a bias or none:

    one call with the rows of all W_i, and a view of its columns for each y_i, for the ops that declare `stacks`. One
    kernel reads x once and fills the device better than several small ones. Weights of several types (attn_v in Q6_K
    beside Q4_K) stay apart.
    """
    together: dict[tuple[object, ...], list[Node]] = {}
    for node in graph.calls():
        assert node.op is not None
        stacked = _stacked(node) if node.op.stacks else {}
        if stacked and all(v is None or (v.node.kind == "weight" and not _axis(v)) for v in stacked.values()):
            others = tuple(v for i, v in enumerate(node.inputs) if i not in stacked)
            kinds = tuple(v and (v.type.dtype, v.type.shape[1:]) for v in stacked.values())
            together.setdefault((node.op, others, kinds, exact(node.op.name, node.attrs)), []).append(node)
    groups = [_merge(nodes, options) for nodes in together.values() if len(nodes) > 1]
    return rebuild(graph, groups) if groups else graph


def _stacked(node: Node) -> dict[int, Value | None]:
    """The weight and bias of a call, by their places among its operands."""
    assert node.op is not None
    roles = [node.op.roles.get(name) for name in node.op.operands]
    return {i: v for i, v in enumerate(node.inputs) if roles[i] in ("weight", "bias")}


def _axis(value: Value) -> int:
    assert value.node.leaf is not None
    return value.node.leaf.axis


def _merge(nodes: list[Node], options: Options) -> Group:
    first = nodes[0]
    places = _stacked(first)
    widths = [int(n.types[0].shape[-1]) for n in nodes]  # type: ignore[arg-type]

    def build(new: Graph, sources: tuple[Value | None, ...]) -> tuple[Value, ...]:
        rest, count = iter(sources), range(len(first.inputs))
        operands = [_stack(new, [n.inputs[i] for n in nodes]) if i in places else next(rest) for i in count]
        assert first.op is not None
        y = new.call(first.op, *operands, **first.attrs)
        starts = [sum(widths[:i]) for i in range(len(widths))]
        return tuple(options.columns(y, start=s, stop=s + n) for s, n in zip(starts, widths, strict=True))

    others = tuple(v for i, v in enumerate(first.inputs) if i not in places)
    return Group(tuple(Value(n) for n in nodes), others, build)


def _stack(new: Graph, weights: list[Value | None]) -> Value | None:
    """One weight leaf with the rows of all, or None where there are none."""
    there = [w for w in weights if w is not None]
    if not there:
        return None
    rows = sum(w.type.concrete()[0] for w in there)
    parts = tuple(part for w in there for part in w.node.parts)
    return new.weight(parts, TensorType((rows, *there[0].type.shape[1:]), there[0].type.dtype))
