"""Run a graph by its ops' references: the oracle of every pass, plan and kernel.

`fixed` gives the dense tensor of a weight (a quantized one already dequantized) or of a constant; every result keeps
the precision of the references (fp32), whatever type the graph gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from forge.errors import GraphError
from forge.graph.ir import Graph, Node, Value

Fixed = Callable[[Node], Any]


def evaluate(
    graph: Graph, inputs: Mapping[str, Any], fixed: Fixed, states: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (outputs by name, updated states by name). Raises GraphError for an input or state not given."""
    results: dict[Value, Any] = {}
    left = {node: len(users) for node, users in graph.users().items()}
    for value in graph.roots:
        left[value.node] += 1
    for node in graph.nodes:
        if node.op is None:
            results[Value(node)] = _leaf(node, inputs, fixed, states)
        else:
            out = node.op.reference(*(v and results[v] for v in node.inputs), **node.attrs)
            results.update(zip(node.outputs, out if isinstance(out, tuple) else (out,), strict=True))
        for source in dict.fromkeys(v.node for v in node.inputs if v is not None):
            left[source] -= 1
            if not left[source]:  # the last use: a large model's intermediate values need not pile up
                for value in source.outputs:
                    del results[value]
    return {n: results[v] for n, v in graph.outputs.items()}, {n: results[v] for n, v in graph.updates.items()}


def _leaf(node: Node, inputs: Mapping[str, Any], fixed: Fixed, states: Mapping[str, Any]) -> Any:
    if node.kind in ("weight", "constant"):
        return fixed(node)
    given = inputs if node.kind == "input" else states
    if node.name not in given:
        raise GraphError(f"evaluate: {node.label} : {node.types[0]} is not given", where=node.graph.name)
    return given[node.name]
