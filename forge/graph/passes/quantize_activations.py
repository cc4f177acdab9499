"""Activations to int8 codes before quantized weights, so that a kernel multiplies integers."""

from __future__ import annotations

from collections.abc import Callable

from forge.errors import ShapeError
from forge.graph.ir import Graph, Node, Value, types_of
from forge.graph.passes.options import Options
from forge.graph.rewrite import Group, as_tuple, rebuild
from forge.graph.types import TensorType


def quantize_activations(graph: Graph, options: Options) -> Graph:
    """op(x, w) becomes op(quantize(x), w) where w is a quantized weight, and the op takes x in that form.

    Calls that share x share its quantization, as equal calls are one node.
    """
    if options.quantize is None:
        return graph
    groups = [g for node in graph.calls() if (g := _group(node, options.quantize)) is not None]
    return rebuild(graph, groups) if groups else graph


def _group(node: Node, quantize: Callable[[Value], Value]) -> Group | None:
    assert node.op is not None
    operands = [
        (i, node.op.roles.get(n), v.type.dtype)
        for i, (n, v) in enumerate(zip(node.op.operands, node.inputs, strict=True))
        if v is not None
    ]
    meets = any(role == "weight" and dtype.quantized for _, role, dtype in operands)
    places = [i for i, role, dtype in operands if role == "activation" and dtype.floating]
    if not meets or not places or not _takes(node, places, quantize):
        return None

    def build(new: Graph, sources: tuple[Value | None, ...]) -> tuple[Value, ...]:
        operands = list(sources)
        for i in places:
            x = operands[i]
            assert x is not None
            operands[i] = quantize(x)
        assert node.op is not None
        return as_tuple(new.call(node.op, *operands, **node.attrs))

    return Group(node.outputs, node.inputs, build)


def _takes(node: Node, places: list[int], quantize: Callable[[Value], Value]) -> bool:
    """Whether the op's type rule takes quantized activations in these places."""
    assert node.op is not None
    trial, types = Graph(), list(types_of(node.inputs))
    try:
        for i in places:
            x = types[i]
            assert isinstance(x, TensorType)
            types[i] = quantize(trial.input(f"x{i}", x)).type
        node.op.infer(tuple(types), node.attrs)
    except ShapeError:
        return False
    return True
