"""Activations to int8 before quantized weights, so that a kernel multiplies integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forge.graph.ir import Graph, Node, Value
from forge.graph.rewrite import Group, rebuild

if TYPE_CHECKING:
    from forge.graph.passes import Options


def quantize_activations(graph: Graph, options: Options) -> Graph:
    """linear(x, w) becomes linear(quantize_q8(x), w) where w is of a block type, to the type `options.activations`.

    "a8" is one int8 code a value, "a16" two (`residual`); "float" leaves the graph as it is. Linears that share x share
    its quantization, as equal calls are one node.
    """
    if options.activations == "float":
        return graph
    linear, quantize, residual = options.ops["linear"], options.ops["quantize_q8"], options.activations == "a16"

    def group(node: Node) -> Group:
        def build(new: Graph, sources: tuple[Value | None, ...]) -> tuple[Value, ...]:
            x, *others = sources
            return (new.call(linear, new.call(quantize, x, residual=residual), *others, **node.attrs),)

        return Group(node.outputs, node.inputs, build)

    return rebuild(graph, [group(n) for n in graph.calls() if n.op is linear and _wanted(n)])


def _wanted(node: Node) -> bool:
    x, w = node.inputs[:2]
    assert x is not None and w is not None
    return w.type.dtype.quantized and x.type.dtype.floating
