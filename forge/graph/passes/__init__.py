"""The passes, one a file, and the pipeline that runs them in order.

A pass is a function from a graph to a graph that computes the same. After each the graph is verified, and any of them
can be dumped: `forge dump --after fuse`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from forge.errors import UsageError
from forge.graph.ir import Graph
from forge.graph.passes.fuse import fuse_equals
from forge.graph.passes.options import Options
from forge.graph.passes.quantize_activations import quantize_activations
from forge.graph.passes.simplify import simplify
from forge.graph.passes.stack_weights import stack_weights
from forge.graph.verify import verify

Pass = Callable[[Graph, Options], Graph]

PIPELINE: tuple[tuple[str, Pass], ...] = (
    ("simplify", simplify),
    ("stack_weights", stack_weights),
    ("quantize_activations", quantize_activations),
    ("fuse", fuse_equals),
    ("tidy", simplify),
)


__all__ = ["PIPELINE", "Options", "Pass", "optimize", "stages"]


def stages(graph: Graph, options: Options) -> Iterator[tuple[str, Graph]]:
    """The graph as built ("built"), and after each pass of the pipeline under its name; each is verified."""
    yield "built", verify(graph)
    for name, run in PIPELINE:
        graph = verify(run(graph, options))
        yield name, graph


def optimize(graph: Graph, options: Options, after: str | None = None) -> Graph:
    """The graph after the pass called `after`, or after all of them."""
    names = ["built", *(name for name, _ in PIPELINE)]
    if after is not None and after not in names:
        raise UsageError(f"no pass is called {after!r}", remedy=f"one of: {', '.join(names)}")
    for name, result in stages(graph, options):
        graph = result
        if name == after:
            break
    return graph
