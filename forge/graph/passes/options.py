"""What the passes need to know of the world outside the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forge.graph.ir import Value
from forge.graph.op import Op


@dataclass(frozen=True)
class Options:
    """`ops` are all there are, by name, among them the fused ones.

    `quantize` makes codes of an activation before it meets a quantized weight; None leaves activations as they are.
    `columns(y, start=, stop=)` is a view of some columns of y.
    """

    ops: Mapping[str, Op]
    columns: Callable[..., Value]
    quantize: Callable[[Value], Value] | None = None
