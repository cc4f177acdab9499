"""Fusion by `equals`: each fused op states the expression it replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forge.graph.ir import Graph
from forge.graph.rewrite import fuse, rule_of

if TYPE_CHECKING:
    from forge.graph.passes import Options


def fuse_equals(graph: Graph, options: Options) -> Graph:
    """Apply the rule of every fused op, those that replace most first."""
    rules = [rule_of(op) for op in options.ops.values() if op.equals is not None]
    for rule in sorted(rules, key=lambda r: -r.size):
        graph = fuse(graph, rule)
    return graph
