"""A model of a decode step's time on a card that is not here: from bytes, instructions, and a cost a node.

Nothing here is measured. A node is taken to last as long as the longest of these, and the card's cost a node besides:

    memory   bytes / min(copy rate, bytes in flight / latency)           (Little's law)
    vector   issue slots of the vector ALU / the SIMDs' rate
    matrix   operations of matrix instructions / the data sheet's rate
    cache    bytes of vector loads, those of a cache among them / what compute units read a cycle
    waves    a wave's own time, waits for loads included, as often as programs come one after the other

Loads of weights and states are late by the latency of memory, others by that of L2.

Bytes are those that must come from memory: weights in their layout, pages in use, results. Counts come from code
objects compiled for the target, of which some programs are emulated. On a card of NVIDIA, whose code is not read here,
nothing is known but bytes and operations: bandwidth is then the copy rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from forge.bench.cards import Card, units_of
from forge.bench.lone_wave import LoneWave, lone_wave
from forge.bench.sliced import Sliced, Zeros, sliced
from forge.errors import UsageError
from forge.graph.ir import Node
from forge.graph.leaves import Leaf
from forge.graph.op import Cost
from forge.graph.types import TensorType, tensor
from forge.lower.launch import Launch
from forge.lower.schedule import build
from forge.lower.sizes import Sizes
from forge.lower.weights import Storage
from forge.runtime.batch import Batch, BatchBuilder
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.scheduler import Slice

if TYPE_CHECKING:
    from forge.compiled import CompiledModel


@dataclass(frozen=True)
class NodeModel:
    """Launches of a step that are alike: `count` of them. Numbers are of one; `weights` that it reads, 0 if none."""

    op: str
    kernel: str
    shape: str
    count: int
    card: Card
    bytes: int
    flops: int
    weights: int
    programs: int
    code: Sliced | None  # None where nothing is known of the code
    wave: LoneWave | None
    streams: bool  # whether it reads matrices of weights, or states

    @property
    def in_flight(self) -> float | None:
        """Bytes on their way to a compute unit at the most: of the waves that it holds, all of them in one round."""
        if self.code is None or self.wave is None:
            return None
        on_unit = min(self.code.resident(self.card.target), self.programs / self.card.target.compute_units)
        return on_unit * self.code.waves(self.card.target) * self.wave.outstanding

    @property
    def terms(self) -> Mapping[str, float]:
        """Seconds by what they are for."""
        target, clock = self.card.target, self.card.clock.value * 1e9
        copy, cus = self.card.copy.value * 1e9, target.compute_units
        if self.code is None or self.wave is None:
            return {"memory": self.bytes / copy, "matrix": self.flops / (target.tflops * 1e12)}
        units, counted, scale = units_of(target), self.code.counters, self.code.scale
        flight = cus * (self.in_flight or 0.0)
        rate = min(copy, flight / (self.card.memory.value * 1e-9)) if self.streams and flight else copy
        turns = ceil(self.programs / (cus * self.code.resident(target)))
        return {
            "memory": self.bytes / rate,
            "vector": scale * self.code.lanes / (cus * units.simds * target.wave / units.issue * clock),
            "matrix": scale * 2 * counted.multiply_adds / (target.tflops * 1e12),
            "cache": scale * counted.memory.loaded.total() / (cus * units.read * clock),
            "waves": turns * self.wave.seconds,
        }

    @property
    def bound(self) -> str:
        """The longest of the terms."""
        return max(self.terms, key=lambda name: self.terms[name])

    @property
    def seconds(self) -> float:
        """Of one node."""
        return self.terms[self.bound] + self.card.node.value * 1e-6

    def json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {n: getattr(self, n) for n in ("op", "kernel", "shape", "count", "bytes", "weights")}
        shown |= {"programs": self.programs, "us": self.seconds * 1e6, "bound": self.bound}
        shown["terms_us"] = {name: seconds * 1e6 for name, seconds in self.terms.items()}
        if self.code is None or self.wave is None:
            return shown | {"code": None}
        code, target = self.code.code, self.card.target
        about = {n: getattr(code, n) for n in ("vgprs", "agprs", "vgpr_spills", "sgpr_spills", "scratch", "lds")}
        about |= {"emulated": self.code.emulated, "waves": self.code.waves(target)}
        about |= {"resident": self.code.resident(target), "in_flight": self.in_flight, "rounds": self.wave.rounds}
        about |= {"vector_lanes": self.code.scale * self.code.lanes, "wave_us": self.wave.seconds * 1e6}
        about["matrix_instructions"] = self.code.scale * self.code.counters.instructions["matrix"]
        return shown | {"code": about}


@dataclass(frozen=True)
class StepModel:
    """A step of decoding of `seqs` sequences, each with `depth` tokens before it."""

    card: Card
    seqs: int
    depth: int
    nodes: tuple[NodeModel, ...]

    @property
    def launches(self) -> int:
        return sum(node.count for node in self.nodes)

    @property
    def bytes(self) -> int:
        return sum(node.count * node.bytes for node in self.nodes)

    @property
    def seconds(self) -> float:
        return sum(node.count * node.seconds for node in self.nodes)

    @property
    def tokens_per_second(self) -> float:
        return self.seqs / self.seconds

    @property
    def limit(self) -> float:
        """Tokens a second if the bytes at the copy rate were all."""
        return self.seqs * self.card.copy.value * 1e9 / self.bytes

    def json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"card": self.card.name, "target": self.card.arch, "seqs": self.seqs}
        shown |= {"depth": self.depth, "launches": self.launches, "bytes": self.bytes, "step_us": self.seconds * 1e6}
        shown |= {"tokens_per_second": self.tokens_per_second, "limit": self.limit}
        shown["figures"] = {n: {"value": f.value, "source": f.source} for n, f in self.card.sources.items()}
        return shown | {"nodes": [node.json() for node in self.nodes]}


def model_step(model: CompiledModel, card: Card, seqs: int, depth: int) -> StepModel:
    """The model of a step of `model`, compiled for the card's architecture, in which `seqs` sequences get a token each.

    Raises UsageError for more than the model is compiled for, UnsupportedError, CompileError and EmulationError.
    """
    if not 0 <= depth < model.context_length or not 1 <= seqs <= model.max_seqs:
        raise UsageError(
            f"a step of {seqs} sequences at a depth of {depth}",
            remedy=f"at most {model.max_seqs} sequences of {model.context_length} tokens, the new one among them; "
            "see --max-seqs and --context",
        )
    import torch

    sizes: Sizes = {"T": seqs, "S": seqs, "R": seqs}
    batch = _batch(model, seqs, depth)
    inputs = {name: torch.from_numpy(array.copy()) for name, array in batch.inputs.items()}
    stored = {leaf.leaf: storage for leaf, storage in model.plan.weights.items()}
    memory = Zeros(inputs, stored)
    built = build(model.plan.schedule(sizes), memory)
    used = tensor("i32", seqs, -(-(depth + 1) // model.page_size))
    alike: dict[tuple[Any, ...], list[tuple[Node, Launch, bool]]] = {}
    earlier: Node | None = None
    for node, task in built.tasks:
        if isinstance(task, Launch):
            alike.setdefault(_alike(node, task, sizes), []).append((node, task, node is earlier))
        earlier = node
    nodes = []
    for calls in alike.values():
        node, launch, continued = calls[0]
        cost, weights = Cost(), 0
        if not continued:  # the op's cost is that of its first launch
            cost, weights = _cost(node, sizes, used, stored)
        nodes.append(_node(node, launch, len(calls), card, cost, weights, sizes, memory))
    return StepModel(card, seqs, depth, tuple(nodes))


def _node(
    node: Node, launch: Launch, count: int, card: Card, cost: Cost, weights: int, sizes: Sizes, memory: Zeros
) -> NodeModel:
    streams = any(v is not None and v.node.kind in ("weight", "state") and v.type.rank > 1 for v in node.inputs)
    code = wave = None
    moved = cost.bytes
    if card.target.backend == "hip":
        code = sliced(launch, card.target)
        wave = lone_wave(code.trace, card, memory.streamed)
        if not moved:  # a further launch of a call: what it was seen to move
            moved = int(code.scale * code.counters.memory.bytes)
    shape = ", ".join(str(v.type.bind(sizes)) for v in node.inputs if v is not None)
    name, programs = str(node.op and node.op.name), prod(launch.grid)
    return NodeModel(
        name, launch.fn.__name__, shape, count, card, moved, cost.flops, weights, programs, code, wave, streams
    )


def _alike(node: Node, launch: Launch, sizes: Sizes) -> tuple[Any, ...]:
    """A key that launches share which do the same work on operands of the same types."""
    types = tuple(None if v is None else v.type.bind(sizes) for v in node.inputs)
    return node.op, launch.fn, launch.grid, tuple(sorted((k, str(v)) for k, v in launch.meta.items())), types


def _cost(node: Node, sizes: Sizes, used: TensorType, stored: Mapping[Leaf | None, Storage]) -> tuple[Cost, int]:
    """The op's cost and the weights that it reads. Page tables count for the pages in use; weights for their layout."""
    assert node.op is not None
    types: list[TensorType | None] = []
    held = plain = weights = 0
    for value in node.inputs:
        if value is None:
            types.append(None)
            continue
        paged = value.node.leaf is not None and value.node.name == "page_table"
        types.append(used if paged else value.type.bind(sizes))
        if value.node.kind == "weight" and value.type.rank > 1:
            plain, held = plain + value.type.nbytes, held + stored[value.node.leaf].nbytes
            weights += value.type.numel
    cost = node.op.cost(*types, **node.attrs)
    if not plain or cost.bytes < plain:  # of an embedding, only rows are read
        return cost, 0
    return Cost(bytes=cost.bytes + held - plain, flops=cost.flops), weights


def _batch(model: CompiledModel, seqs: int, depth: int) -> Batch:
    """A step that decodes one token each of `seqs` sequences; they share their pages, as nothing is looked at."""
    builder = BatchBuilder(
        max_tokens=seqs, max_seqs=seqs, page_size=model.page_size, context_length=model.context_length
    )
    return builder.build(list(_slices(model, seqs, depth)), [])


def _slices(model: CompiledModel, seqs: int, depth: int) -> Iterable[Slice]:
    pages = -(-(depth + 1) // model.page_size)
    for i in range(seqs):
        request = Request(f"modelled-{i}", [0] * (depth + 1), SamplingParams())
        request.pages = list(range(pages))
        yield Slice(request, depth, 1)
