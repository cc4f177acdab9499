"""A graph as kernels can carry it out at given sizes: a fused call that no kernel serves is composed from `equals`.

Composing is a rebuilding of the graph, so equal calls that it makes are one call: two fused ops that quantize one x
share that. Which calls are composed depends on the sizes, but few distinct graphs come of it, and each is made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from forge.graph.ir import Graph, Node, types_of
from forge.graph.op import Call, Op, Types
from forge.graph.parameters import exact
from forge.graph.rewrite import expand
from forge.graph.types import StateType, TensorType
from forge.lower.memory import Arena, plan_arena
from forge.lower.select import Selection, find, unserved
from forge.lower.sizes import Sizes
from forge.target import DeviceTarget
from forge.tune.store import TuningStore


class Kind:
    """The calls of an op that have the same symbolic types and attributes: one kernel serves them all, chosen once.

    `among` are the kinds whose composition brought the first of them.
    """

    def __init__(
        self, node: Node, target: DeviceTarget, store: TuningStore, among: tuple[Kind, ...], forced: Selection | None
    ) -> None:
        assert node.op is not None
        self.op: Op = node.op
        self.types: Types = types_of(node.inputs)
        self.results: tuple[TensorType, ...] = node.types
        self.attrs, self.target, self.among = node.attrs, target, among
        every = (*(t for t in self.types if t is not None), *self.results)
        self._symbols = tuple(sorted({s.name for t in every for s in t.symbols}))
        self._store, self._forced = store, forced
        self._chosen: dict[tuple[int, ...], Selection | None] = {}

    def outward(self) -> Iterator[Kind]:
        """This kind, the one it was composed within, and so on."""
        yield self
        for outer in self.among:
            if outer.makes(self.op):
                yield from outer.outward()
                return

    def makes(self, op: Op) -> bool:
        """Whether the expression that this op equals has a call of `op`."""
        graph = Graph()
        named = zip(self.op.operands, self.types, strict=True)
        operands = [t and (graph.state(n, t) if isinstance(t, StateType) else graph.input(n, t)) for n, t in named]
        assert self.op.equals is not None
        self.op.equals(*operands, **self.attrs)
        return any(node.op is op for node in graph.calls())

    def call(self, sizes: Sizes) -> Call:
        """The call at these sizes."""
        types = tuple(t and t.bind(sizes) for t in self.types)
        return Call(self.op, types, tuple(t.bind(sizes) for t in self.results), self.attrs, self.target)

    def selection(self, sizes: Sizes) -> Selection | None:
        """The op's own kernel at these sizes, or None."""
        if self._forced is not None:
            return self._forced
        key = self._key(sizes)
        if key not in self._chosen:
            self._chosen[key] = find(self.call(sizes), self._store)
        return self._chosen[key]

    def selections(self, many: Iterable[Sizes]) -> list[Selection]:
        """The kernels at all of these sizes, each once. There must be one at every size."""
        found = (self.selection(sizes) for sizes in {self._key(sizes): sizes for sizes in many}.values())
        return [selection for selection in found if selection is not None]

    def _key(self, sizes: Sizes) -> tuple[int, ...]:
        return tuple(sizes[name] for name in self._symbols)


class Lowered:
    """A graph with the kind of each of its calls (views have none), and the arena of its intermediate values."""

    def __init__(self, graph: Graph, kinds: Mapping[Node, Kind]) -> None:
        self.graph, self.kinds = graph, kinds
        self.distinct = tuple(dict.fromkeys(kinds.values()))
        self.composed: dict[tuple[Kind, ...], Lowered] = {}  # the same with the calls of some kinds composed

    @cached_property
    def arena(self) -> Arena:
        return plan_arena(self.graph)

    @cached_property
    def weights(self) -> tuple[tuple[Node, str, Kind], ...]:
        """(leaf, operand, kind) for each distinct use of a weight."""
        found: dict[tuple[Node, str, Kind], None] = {}
        for node, kind in self.kinds.items():
            for name, value in zip(kind.op.operands, node.inputs, strict=True):
                if value is not None and value.node.kind == "weight":
                    found[value.node, name, kind] = None
        return tuple(found)


class Composer:
    """Gives a graph lowered at any sizes. `forced` is the selection of every call, whatever would be chosen.

    One thread may use it at a time.
    """

    def __init__(self, graph: Graph, target: DeviceTarget, store: TuningStore, forced: Selection | None = None) -> None:
        self._target, self._store, self._forced = target, store, forced
        self._kinds: dict[Any, Kind] = {}
        self._whole = self._lowered(graph, ())

    def at(self, sizes: Sizes) -> Lowered:
        """The graph that runs at `sizes`. Raises UnsupportedError for a call that can neither run nor be composed."""
        lowered = self._whole
        while missing := tuple(kind for kind in lowered.distinct if kind.selection(sizes) is None):
            if missing not in lowered.composed:
                lowered.composed[missing] = self._composed(lowered, missing, sizes)
            lowered = lowered.composed[missing]
        return lowered

    def _composed(self, lowered: Lowered, missing: tuple[Kind, ...], sizes: Sizes) -> Lowered:
        """The graph with every call of these kinds replaced by what its op equals."""
        for kind in missing:
            if kind.op.equals is None:
                raise unserved(*(k.call(sizes) for k in kind.outward()))
        return self._lowered(expand(lowered.graph, lambda node: lowered.kinds.get(node) in missing), missing)

    def _lowered(self, graph: Graph, among: tuple[Kind, ...]) -> Lowered:
        kinds: dict[Node, Kind] = {}
        for node in graph.calls():
            assert node.op is not None
            if node.op.view:
                continue
            key = (node.op, types_of(node.inputs), exact(node.op.name, node.attrs))
            if key not in self._kinds:
                self._kinds[key] = Kind(node, self._target, self._store, among, self._forced)
            kinds[node] = self._kinds[key]
        return Lowered(graph, kinds)
