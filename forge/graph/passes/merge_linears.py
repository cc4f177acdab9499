"""Linears that read the same input become one, with their weights stacked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forge.graph.ir import Graph, Node, Value
from forge.graph.rewrite import Group, rebuild
from forge.graph.types import TensorType

if TYPE_CHECKING:
    from forge.graph.passes import Options


def merge_linears(graph: Graph, options: Options) -> Graph:
    """y_i = x W_i^T + b_i for weights of one type and width, all with a bias or none:

    one linear with the rows of all W_i, and a view of its columns for each y_i. One kernel reads x once and fills the
    device better than several small ones. Weights of several types (attn_v in Q6_K beside Q4_K) stay apart.
    """
    together: dict[tuple[object, ...], list[Node]] = {}
    for node in graph.calls():
        assert node.op is not None
        if node.op.name == "linear" and all(v is None or v.node.kind == "weight" for v in node.inputs[1:]):
            x, w, bias = node.inputs
            assert w is not None
            key = (x, w.type.dtype, w.type.shape[1], bias is None, node.attrs["out"])
            together.setdefault(key, []).append(node)
    groups = [_merge(nodes, options) for nodes in together.values() if len(nodes) > 1]
    return rebuild(graph, groups) if groups else graph


def _merge(nodes: list[Node], options: Options) -> Group:
    linear, columns = options.ops["linear"], options.ops["columns"]
    weights = [n.inputs[1] for n in nodes]
    biases = [n.inputs[2] for n in nodes]
    widths = [_rows(w) for w in weights]

    def build(new: Graph, sources: tuple[Value | None, ...]) -> tuple[Value, ...]:
        w = _stack(new, weights)
        bias = None if biases[0] is None else _stack(new, biases)
        y = new.call(linear, sources[0], w, bias, **nodes[0].attrs)
        starts = [sum(widths[:i]) for i in range(len(widths))]
        return tuple(new.call(columns, y, start=s, stop=s + n) for s, n in zip(starts, widths, strict=True))

    return Group(tuple(Value(n) for n in nodes), (nodes[0].inputs[0],), build)


def _rows(weight: Value | None) -> int:
    assert weight is not None
    rows = weight.type.concrete()[0]
    return rows


def _stack(new: Graph, weights: list[Value | None]) -> Value:
    """One weight leaf with the rows of all."""
    parts = tuple(part for w in weights if w is not None for part in w.node.parts)
    first = weights[0]
    assert first is not None
    rows = sum(_rows(w) for w in weights)
    return new.weight(parts, TensorType((rows, *first.type.shape[1:]), first.type.dtype))
