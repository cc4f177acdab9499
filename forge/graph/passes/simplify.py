"""Dead code and common subexpressions: one pass, because one rebuilding does both."""

from __future__ import annotations

from forge.graph.ir import Graph
from forge.graph.passes.options import Options
from forge.graph.rewrite import rebuild


def simplify(graph: Graph, options: Options) -> Graph:
    """Keep what an output or a state update needs (inputs and states always), and make equal calls one.

    Only what the results reach is built again, which drops the dead; and a graph cannot hold two equal calls, as its
    nodes are hash-consed, which makes calls one that have become equal.
    """
    return rebuild(graph)
