"""The graph of one step while an architecture builds it: the step's inputs, the model's weights, element types."""

from __future__ import annotations

from dataclasses import dataclass, replace

from forge.graph.ir import Graph, Value
from forge.graph.types import DTYPES, StateType
from forge.models.keys import Size
from forge.models.weights import Weights
from forge.runtime.contract import INPUTS, KEPT, Limits


@dataclass(frozen=True)
class Precision:
    """Element types: `act` of what kernels multiply, `kv` of the KV pages, `residual` of the stream between layers."""

    act: str = "f16"
    kv: str = "f16"
    residual: str = "f32"


@dataclass(frozen=True)
class Inputs:
    """What a step is fed: any mix of sequences, each with any number of new tokens. See `forge.runtime.contract`."""

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
        """The inputs of every graph."""
        fed = {name: given.type(limits) for name, given in INPUTS.items() if not given.only_with}
        return cls(**{name: graph.input(name, type) for name, type in fed.items()})


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

    @property
    def state_slots(self) -> Value:
        """The input that says where each sequence's own state is, for graphs that have such state."""
        return self.graph.input("state_slots", INPUTS["state_slots"].type(self.limits))

    @property
    def kept(self) -> Value:
        """The ids that the last step gave, for tokens that are not known on the host yet."""
        return self.graph.state(KEPT, StateType((self.limits.max_seqs,), DTYPES["i32"], "step"))

    def block(self, layer: int) -> Builder:
        """The builder of one layer."""
        return replace(self, weights=self.weights.within(f"blk.{layer}."), layer=layer)
