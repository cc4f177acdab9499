"""Views: other shapes of memory that is already there. They cost nothing and have no kernels."""

from __future__ import annotations

from forge.graph.op import Case, Cost, expect, op
from forge.graph.types import Sym, TensorType, tensor


def _free(*operands, **attrs):
    return Cost()


def _columns_types(x, *, start, stop):
    expect(x.rank == 2 and not x.dtype.quantized, "x must be unquantized [T,N]")
    expect(not isinstance(x.shape[1], Sym), f"the width {x.shape[1]} of x must be known")
    expect(0 <= start < stop <= x.shape[1], f"columns {start}:{stop} are not within the {x.shape[1]} of x")
    return TensorType((x.shape[0], stop - start), x.dtype)


@op(
    types=_columns_types,
    reference=lambda x, *, start, stop: x[:, start:stop],
    cost=_free,
    cases=lambda: (Case("middle", (tensor("f16", 3, 96),), dict(start=32, stop=64)),),
    view=True,
)
def columns(x, *, start, stop):
    """y[T,stop-start] = x[:, start:stop] of x[T,N]: one of several projections that were made side by side."""


def _split_heads_types(x, *, heads):
    expect(x.rank == 2 and not x.dtype.quantized, "x must be unquantized [T,N]")
    expect(not isinstance(x.shape[1], Sym), f"the width {x.shape[1]} of x must be known")
    expect(heads > 0 and x.shape[1] % heads == 0, f"{x.shape[1]} columns do not make {heads} heads of one width")
    return TensorType((x.shape[0], heads, x.shape[1] // heads), x.dtype)


@op(
    types=_split_heads_types,
    reference=lambda x, *, heads: x.unflatten(1, (heads, -1)),
    cost=_free,
    cases=lambda: (Case("three", (tensor("f16", 3, 96),), dict(heads=3)),),
    view=True,
)
def split_heads(x, *, heads):
    """y[T,H,E] = x[T,H*E]: head h is columns h*E to (h+1)*E; rows may lie apart."""


def _merge_heads_types(x):
    expect(x.rank == 3 and not x.dtype.quantized, "x must be unquantized [T,H,E]")
    expect(
        not any(isinstance(d, Sym) for d in x.shape[1:]), f"the heads {x.shape[1]} of {x.shape[2]} of x must be known"
    )
    return TensorType((x.shape[0], x.shape[1] * x.shape[2]), x.dtype)


@op(
    types=_merge_heads_types,
    reference=lambda x: x.flatten(1),
    cost=_free,
    cases=lambda: (Case("three", (tensor("f16", 3, 3, 32),)),),
    view=True,
)
def merge_heads(x):
    """y[T,H*E] = x[T,H,E]: the inverse of split_heads; the heads of a token must lie side by side."""
