"""The feed-forward part of a layer."""

from __future__ import annotations

from forge.graph.ir import Value
from forge.graph.op import Op
from forge.models.builder import Builder
from forge.models.parts.linear import project


def gated(
    b: Builder, x: Value, width: int, inner: int, activation: Op, *, bias: bool = False, out: str | None = None
) -> Value:
    """down(activation(gate(x), up(x))), `inner` wide within, of the type `out`. Source: arXiv 2002.05202."""
    gate = project(b, "ffn_gate", x, inner, width, bias=bias)
    up = project(b, "ffn_up", x, inner, width, bias=bias)
    return project(b, "ffn_down", activation(gate, up), width, inner, bias=bias, out=out)
