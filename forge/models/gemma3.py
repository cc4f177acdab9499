"""Gemma 3 (text): five layers of six see a window, and have a rotation of their own. Source: arXiv 2503.19786."""

from __future__ import annotations

from dataclasses import dataclass, replace

from forge.graph.ir import Value
from forge.kernels.add import add
from forge.kernels.geglu import geglu
from forge.kernels.rope import rope
from forge.kernels.scale import scale
from forge.models.architecture import Architecture
from forge.models.builder import Builder
from forge.models.keys import Keys
from forge.models.parts.attention import Heads, attention, queries_keys_values, read_heads
from forge.models.parts.embedding import embedding, head
from forge.models.parts.feed_forward import gated
from forge.models.parts.norms import norm, post_norm
from forge.models.parts.rotary import Rope, read_rope


@dataclass(frozen=True)
class Gemma3:
    layers: int
    width: int
    feed_forward: int
    eps: float
    heads: Heads
    window: int
    local: tuple[bool, ...]  # whether a layer sees its window only
    rope: Rope
    local_rope: Rope  # in layers with a window


def configure(keys: Keys) -> Gemma3:
    layers, width, heads = keys.size("block_count"), keys.size("embedding_length"), read_heads(keys)
    if layers == LAYERS_27B:
        heads = replace(heads, scale=(width // heads.count) ** -0.5)
    rope = read_rope(keys, "neox", heads.width)
    return Gemma3(
        layers=layers,
        width=width,
        feed_forward=keys.size("feed_forward_length"),
        eps=keys.epsilon(),
        heads=heads,
        window=keys.window(),
        local=keys.marks("attention.sliding_window_pattern", layers, period=6),
        rope=rope,
        local_rope=Rope("neox", rope.dims, keys.positive("rope.freq_base_swa", 10000.0, above=1)),  # never scaled
    )


def build(b: Builder, c: Gemma3) -> None:
    turned = c.rope.rotation(b.inputs.positions)
    turned_locally = c.local_rope.rotation(b.inputs.positions, name="rope.local_turns")
    h = scale(embedding(b, c.width), factor=c.width**0.5)
    for i in range(c.layers):
        if c.window and c.local[i]:
            h = layer(b.block(i), c, h, turned_locally, c.window)
        else:
            h = layer(b.block(i), c, h, turned, 0)
    head(b, h, c.width, c.eps)


def layer(b: Builder, c: Gemma3, h: Value, turned: Value, window: int) -> Value:
    """A norm before and a norm after each part; the files' weights of norms have their 1 added already."""
    x = norm(b, "attn_norm", h, c.width, c.eps)
    q, k, v = queries_keys_values(b, x, c.width, c.heads)
    q, k = norm(b, "attn_q_norm", q, c.heads.width, c.eps), norm(b, "attn_k_norm", k, c.heads.width, c.eps)
    q, k = rope(q, turned, pairs=c.rope.pairs), rope(k, turned, pairs=c.rope.pairs)
    y = attention(b, q, k, v, c.heads, c.width, window=window, out=b.precision.residual)
    h = add(h, post_norm(b, "post_attention_norm", y, c.width, c.eps))
    x = norm(b, "ffn_norm", h, c.width, c.eps)
    y = gated(b, x, c.width, c.feed_forward, geglu, out=b.precision.residual)
    return add(h, post_norm(b, "post_ffw_norm", y, c.width, c.eps))


LAYERS_27B = 62  # the model of so many layers scales scores by width / heads; nothing else in the file tells it

TINY = {
    "block_count": 3, "context_length": 128, "embedding_length": 64, "feed_forward_length": 96,
    "attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.key_length": 32, "attention.value_length": 32, "rope.freq_base": 1000000.0,
    "attention.sliding_window": 12, "attention.sliding_window_pattern": 3,
}  # fmt: skip

gemma3 = Architecture("gemma3", configure, build, TINY)
