"""Qwen 3 (dense): each head of q and k is normed before it is turned. Source: arXiv 2505.09388."""

from __future__ import annotations

from dataclasses import dataclass

from forge.graph.ir import Value
from forge.kernels.add import add
from forge.kernels.rope import rope
from forge.kernels.swiglu import swiglu
from forge.models.architecture import Architecture
from forge.models.builder import Builder
from forge.models.keys import Keys
from forge.models.parts.attention import Heads, attention, queries_keys_values, read_heads
from forge.models.parts.embedding import embedding, head
from forge.models.parts.feed_forward import gated
from forge.models.parts.norms import norm
from forge.models.parts.rotary import Rope, read_rope


@dataclass(frozen=True)
class Qwen3:
    layers: int
    width: int
    feed_forward: int
    eps: float
    heads: Heads
    rope: Rope
    window: int  # a query sees this many last keys; 0 means all


def configure(keys: Keys) -> Qwen3:
    heads = read_heads(keys)
    return Qwen3(
        layers=keys.size("block_count"),
        width=keys.size("embedding_length"),
        feed_forward=keys.size("feed_forward_length"),
        eps=keys.epsilon(),
        heads=heads,
        rope=read_rope(keys, "neox", heads.width),
        window=keys.window(),
    )


def build(b: Builder, c: Qwen3) -> None:
    turned = c.rope.rotation(b.inputs.positions)
    h = embedding(b, c.width)
    for i in range(c.layers):
        h = layer(b.block(i), c, h, turned)
    head(b, h, c.width, c.eps)


def layer(b: Builder, c: Qwen3, h: Value, turned: Value) -> Value:
    x = norm(b, "attn_norm", h, c.width, c.eps)
    q, k, v = queries_keys_values(b, x, c.width, c.heads)
    q, k = norm(b, "attn_q_norm", q, c.heads.width, c.eps), norm(b, "attn_k_norm", k, c.heads.width, c.eps)
    q, k = rope(q, turned, pairs=c.rope.pairs), rope(k, turned, pairs=c.rope.pairs)
    h = add(h, attention(b, q, k, v, c.heads, c.width, window=c.window))
    x = norm(b, "ffn_norm", h, c.width, c.eps)
    return add(h, gated(b, x, c.width, c.feed_forward, swiglu))


TINY = {
    "block_count": 2, "context_length": 128, "embedding_length": 64, "feed_forward_length": 96,
    "attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.key_length": 32, "attention.value_length": 32, "rope.freq_base": 1000000.0,
}  # fmt: skip

qwen3 = Architecture("qwen3", configure, build, TINY)
