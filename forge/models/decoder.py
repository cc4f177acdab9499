"""The decoder-only transformer that llama, qwen2 and qwen3 are kinds of: its configuration and its graph.

    h = embed(tokens)
    for each layer:  h += o_proj(attention(rope(q), rope(k), v));   h += down(swiglu(gate(n), up(n)))
    logits = head(norm(h)[rows]);  ids = argmax(logits)

The residual stream h is f32; what kernels multiply is of `Precision.act`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from forge.errors import FileFormatError
from forge.graph.ir import Graph, Value
from forge.graph.op import Op
from forge.graph.types import DTYPES, Dim, StateType, Sym, TensorType, tensor
from forge.models.parts.rotary import Rope


@dataclass(frozen=True)
class Config:
    """Hyperparameters of a decoder, and the types of its tensors by GGUF name."""

    architecture: str
    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_width: int
    vocab: int
    context: int
    eps: float
    rope: Rope
    window: int = 0  # a query sees this many last keys; 0 means all
    scale: float = 0.0  # of the scores; 0 means 1 / sqrt(head_width)
    qkv_bias: bool = False
    qk_norm: bool = False
    tensors: Mapping[str, TensorType] = field(default_factory=dict, repr=False)

    @property
    def kv_elements(self) -> int:
        """Elements of keys and values a token in one layer."""
        return 2 * self.kv_heads * self.head_width


@dataclass(frozen=True)
class Limits:
    """What a compiled model can hold: tokens, sequences and rows of logits a step, pages, and tokens a page."""

    max_tokens: int
    max_seqs: int
    max_logits: int
    num_pages: int
    page_size: int
    pages_per_seq: int


@dataclass(frozen=True)
class Precision:
    """Element types: `act` of what kernels multiply and of the KV pages, `residual` of the stream between layers."""

    act: str = "f16"
    residual: str = "f32"


def build_decoder(config: Config, limits: Limits, precision: Precision) -> Graph:
    """The graph of one step: any mix of sequences, each with any number of new tokens."""
    return _Builder(config, limits, precision).graph()


class _Builder:
    """Builds one graph; holds what every layer needs."""

    def __init__(self, config: Config, limits: Limits, precision: Precision) -> None:
        from forge.kernels import load

        self.c, self.precision, self.ops = config, precision, load()
        self.g = Graph(config.architecture)
        t, s = Sym("T", limits.max_tokens), Sym("S", limits.max_seqs)
        r = Sym("R", limits.max_logits)
        self.tokens, self.positions, self.slots = (self.input(n, t) for n in ("tokens", "positions", "slots"))
        self.page_table = self.input("page_table", s, limits.pages_per_seq)
        lengths = ("query_start", "query_len", "context_len")
        self.query_start, self.query_len, self.context_len = (self.input(n, s) for n in lengths)
        self.logit_rows = self.input("logit_rows", r)
        self.pages = StateType(
            (2, limits.num_pages, config.kv_heads, limits.page_size, config.head_width), DTYPES[precision.act]
        )
        factors = self.weight("rope_freqs.weight") if "rope_freqs.weight" in config.tensors else None
        self.rotation = config.rope.rotation(self.positions, factors)

    def __getattr__(self, name: str) -> Op:
        return self.ops[name]

    def graph(self) -> Graph:
        h = self.embed(self.tokens, self.weight("token_embd.weight"), out=self.precision.residual)
        for layer in range(self.c.layers):
            h = self.add(h, self.attention(f"blk.{layer}.", layer, self.norm(h, f"blk.{layer}.attn_norm.weight")))
            h = self.add(h, self.feed_forward(f"blk.{layer}.", self.norm(h, f"blk.{layer}.ffn_norm.weight")))
        rows = self.norm(self.take(h, self.logit_rows), "output_norm.weight")
        head = "output.weight" if "output.weight" in self.c.tensors else "token_embd.weight"
        logits = self.linear(rows, self.weight(head), out="f32")
        self.g.output("logits", logits)
        self.g.output("ids", self.argmax(logits))
        return self.g

    def attention(self, prefix: str, layer: int, x: Value) -> Value:
        c = self.c
        q = self.split_heads(self.project(x, prefix + "attn_q", c.qkv_bias), heads=c.heads)
        k = self.split_heads(self.project(x, prefix + "attn_k", c.qkv_bias), heads=c.kv_heads)
        v = self.split_heads(self.project(x, prefix + "attn_v", c.qkv_bias), heads=c.kv_heads)
        if c.qk_norm:
            q, k = self.norm(q, prefix + "attn_q_norm.weight"), self.norm(k, prefix + "attn_k_norm.weight")
        q, k = (self.rope(x, self.rotation, pairs=c.rope.pairs) for x in (q, k))
        kv = self.kv_append(self.g.state(f"kv.{layer}", self.pages), k, v, self.slots)
        self.g.update(f"kv.{layer}", kv)
        seqs = (self.page_table, self.query_start, self.query_len, self.context_len)
        scale = c.scale or c.head_width**-0.5
        y = self.paged_attention(q, kv, *seqs, scale=scale, window=c.window)
        return self.project(self.merge_heads(y), prefix + "attn_output", False)

    def feed_forward(self, prefix: str, x: Value) -> Value:
        gate, up = self.project(x, prefix + "ffn_gate", False), self.project(x, prefix + "ffn_up", False)
        return self.project(self.swiglu(gate, up), prefix + "ffn_down", False)

    def norm(self, x: Value, weight: str) -> Value:
        return self.rms_norm(x, self.weight(weight), eps=self.c.eps, out=self.precision.act)  # type: ignore[no-any-return]

    def project(self, x: Value, name: str, bias: bool) -> Value:
        b = self.weight(name + ".bias") if bias else None
        return self.linear(x, self.weight(name + ".weight"), b, out=self.precision.act)  # type: ignore[no-any-return]

    def input(self, name: str, *shape: Dim) -> Value:
        return self.g.input(name, tensor("i32", *shape))

    def weight(self, name: str) -> Value:
        if name not in self.c.tensors:
            raise FileFormatError(f"the tensor {name} is missing", remedy="convert the model again")
        return self.g.weight(name, self.c.tensors[name])
