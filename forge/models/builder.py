"""The graph of one step while an architecture builds it: the step's inputs, the model's weights, element types."""

from __future__ import annotations

from dataclasses import dataclass, replace

from forge.graph.ir import Graph, Value
from forge.graph.types import Dim, Sym, tensor
from forge.models.keys import Size
from forge.models.weights import Weights


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


@dataclass(frozen=True)
class Inputs:
    """What a step is fed: any mix of sequences, each with any number of new tokens. See `forge.runtime.batch.Batch`."""

    tokens: Value
    positions: Value
    slots: Value
    page_table: Value
    query_start: Value
    query_len: Value
    context_len: Value
    logit_rows: Value

    @classmethod
    def of(cls, graph: Graph, limits: Limits) -> Inputs:
        """The inputs of a graph, i32."""
        t, s, r = Sym("T", limits.max_tokens), Sym("S", limits.max_seqs), Sym("R", limits.max_logits)

        def given(name: str, *shape: Dim) -> Value:
            return graph.input(name, tensor("i32", *shape))

        return cls(
            tokens=given("tokens", t),
            positions=given("positions", t),
            slots=given("slots", t),
            page_table=given("page_table", s, limits.pages_per_seq),
            query_start=given("query_start", s),
            query_len=given("query_len", s),
            context_len=given("context_len", s),
            logit_rows=given("logit_rows", r),
        )


@dataclass(frozen=True)
class Builder:
    """What the parts of a model build with: `layer` is the layer they are in, and `weights` are that layer's."""

    graph: Graph
    weights: Weights
    inputs: Inputs
    limits: Limits
    precision: Precision
    vocab: Size
    layer: int = -1

    def block(self, layer: int) -> Builder:
        """The builder of one layer."""
        return replace(self, weights=self.weights.within(f"blk.{layer}."), layer=layer)
