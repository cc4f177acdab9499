"""Llama 1 to 3 and Mistral 7B, whose files bear the name llama. Source: arXiv 2302.13971, 2407.21783."""

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
class Llama:
    layers: int
    width: int
    feed_forward: int
    eps: float
    heads: Heads
    rope: Rope
    window: int  # a query sees this many last keys; 0 means all


def configure(keys: Keys) -> Llama:
    heads = read_heads(keys)
    return Llama(
        layers=keys.size("block_count"),
        width=keys.size("embedding_length"),
        feed_forward=keys.size("feed_forward_length"),
        eps=keys.epsilon(),
        heads=heads,
        rope=read_rope(keys, "norm", heads.width),
        window=keys.window(),
    )


def build(b: Builder, c: Llama) -> None:
    # Llama 3 divides the turns of each pair by a factor of its own.
    factors = b.weights.vector("rope_freqs.weight", c.rope.dims // 2) if b.weights.has("rope_freqs.weight") else None
    turned = c.rope.rotation(b.inputs.positions, factors)
    h = embedding(b, c.width)
    for i in range(c.layers):
        h = layer(b.block(i), c, h, turned)
    head(b, h, c.width, c.eps)


def layer(b: Builder, c: Llama, h: Value, turned: Value) -> Value:
    """Some conversions carry biases."""
    x = norm(b, "attn_norm", h, c.width, c.eps)
    q, k, v = queries_keys_values(b, x, c.width, c.heads, bias=b.weights.has("attn_q.bias"))
    q, k = rope(q, turned, pairs=c.rope.pairs), rope(k, turned, pairs=c.rope.pairs)
    y = attention(b, q, k, v, c.heads, c.width, window=c.window, bias=b.weights.has("attn_output.bias"))
    h = add(h, y)
    x = norm(b, "ffn_norm", h, c.width, c.eps)
    y = gated(b, x, c.width, c.feed_forward, swiglu, bias=b.weights.has("ffn_up.bias"))
    return add(h, y)


TINY = {
    "block_count": 2, "context_length": 128, "embedding_length": 64, "feed_forward_length": 96,
    "attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.dimension_count": 32, "attention.key_length": 32, "attention.value_length": 32,
}  # fmt: skip

llama = Architecture("llama", configure, build, TINY)
