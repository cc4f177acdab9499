"""Attention of a layer: heads of queries that share heads of keys and values, which lie in pages.

A layer projects, does what its model does to q and k (norms, rotation), and attends:

    q, k, v = queries_keys_values(b, x, width, heads)
    y = attention(b, q, k, v, heads, width)
"""

from __future__ import annotations

from dataclasses import dataclass

from forge.errors import FileFormatError, UnsupportedError
from forge.graph.ir import Value
from forge.graph.types import DTYPES, StateType
from forge.kernels.kv_append import kv_append
from forge.kernels.paged_attention import paged_attention
from forge.kernels.views import merge_heads, split_heads
from forge.models.builder import Builder
from forge.models.keys import Keys
from forge.models.parts.linear import project
from forge.quant.cells import page_type


@dataclass(frozen=True)
class Heads:
    """`count` heads of queries on `kv` of keys and values, each `width` wide; scores are multiplied by `scale`."""

    count: int
    kv: int
    width: int
    scale: float


def read_heads(keys: Keys) -> Heads:
    """Heads by their keys: by default as many of keys as of queries, which share the model's width."""
    count = keys.size("attention.head_count")
    kv = keys.size("attention.head_count_kv", count)
    if count % kv:
        raise FileFormatError(f"{count} heads cannot share {kv} heads of keys and values")
    width = keys.size("attention.key_length", max(keys.size("embedding_length") // count, 1))
    if keys.size("attention.value_length", width) != width:
        raise UnsupportedError(f"values of another width than keys ({width}) in {keys.architecture}")
    return Heads(count, kv, width, scale=keys.positive("attention.scale", width**-0.5))


def queries_keys_values(
    b: Builder, x: Value, width: int, heads: Heads, *, bias: bool = False
) -> tuple[Value, Value, Value]:
    """q[T,H,E], k[T,K,E] and v[T,K,E] of x[T,width]."""
    made = []
    for name, count in (("attn_q", heads.count), ("attn_k", heads.kv), ("attn_v", heads.kv)):
        made.append(split_heads(project(b, name, x, count * heads.width, width, bias=bias), heads=int(count)))
    q, k, v = made
    return q, k, v


def attention(
    b: Builder,
    q: Value,
    k: Value,
    v: Value,
    heads: Heads,
    width: int,
    *,
    window: int = 0,
    bias: bool = False,
    out: str | None = None,
) -> Value:
    """y[T,width]: k and v go to this layer's pages, q attends to all there, and the heads are projected together.

    A query sees the last `window` keys, or all if that is 0; y is of the type `out`. Source: arXiv 1706.03762;
    2305.13245 for the grouped heads.
    """
    dtype, width_of_head = DTYPES[b.precision.kv], int(heads.width)
    if dtype.codes and width_of_head % 4:
        raise UnsupportedError(f"heads {width_of_head} wide, whose keys are to be {dtype} codes", remedy="kv='auto'")
    pages = page_type(dtype, b.limits.num_pages, int(heads.kv), b.limits.page_size, width_of_head)
    name, step = f"kv.{b.layer}", b.inputs
    kv = kv_append(b.graph.state(name, StateType(pages.shape, dtype, "pages")), k, v, step.slots)
    b.graph.update(name, kv)
    sequences = (step.page_table, step.query_start, step.query_len, step.context_len)
    y = merge_heads(paged_attention(q, kv, *sequences, scale=heads.scale, window=window))
    return project(b, "attn_output", y, width, heads.count * heads.width, bias=bias, out=out)
