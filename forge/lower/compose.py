"""A graph as kernels carry it out at given sizes: calls are fused where a kernel serves the fused op.

Every fused call is first expanded into what it equals, and then the rules of all fused ops are applied, but for those
whose call no kernel serves at these sizes, or that the tuning store says are better composed. So fusing is never a
risk: where a fused op's kernel ends, a smaller fusion takes its place, or the parts. Which graph comes of it depends
on the sizes by what is served alone; few distinct ones do, and each is made once. A plain graph stays in parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from functools import cached_property
from typing import Any

from forge.graph.ir import Graph, Node, Value, types_of
from forge.graph.op import Call, Op, Types
from forge.graph.parameters import exact
from forge.graph.passes.fuse import fuse_all
from forge.graph.patterns import Match, rules_of
from forge.graph.rewrite import expand
from forge.graph.types import TensorType
from forge.kernels import load
from forge.lower.memory import Arena, plan_arena
from forge.lower.select import Selection, find, require_finite, unserved
from forge.lower.sizes import Sizes
from forge.target import DeviceTarget
from forge.tune.store import TuningStore


class Kind:
    """The calls of an op that have the same symbolic types and attributes: one kernel serves them all, chosen once."""

    def __init__(
        self,
        op: Op,
        types: Types,
        results: tuple[TensorType, ...],
        attrs: Mapping[str, Any],
        target: DeviceTarget,
        store: TuningStore,
    ) -> None:
        self.op, self.types, self.results, self.attrs, self.target = op, types, results, attrs, target
        every = (*(t for t in types if t is not None), *results)
        self._symbols = tuple(sorted({s.name for t in every for s in t.symbols}))
        self._store = store
        self._chosen: dict[tuple[int, ...], Selection | None] = {}

    def makes(self, op: Op) -> bool:
        """Whether the expression that this fused op equals has a call of `op`."""
        return any(part.op is op for root in rules_of(self.op)[0].roots for part in root.below())

    def call(self, sizes: Sizes) -> Call:
        """The call at these sizes."""
        types = tuple(t and t.bind(sizes) for t in self.types)
        return Call(self.op, types, tuple(t.bind(sizes) for t in self.results), self.attrs, self.target)

    def retyped(self, types: Mapping[TensorType, TensorType]) -> Kind:
        """The kind of the same calls with other types of memory; its kernels are chosen anew."""
        operands = tuple(t and types.get(t, t) for t in self.types)
        results = tuple(types.get(t, t) for t in self.results)
        return Kind(self.op, operands, results, self.attrs, self.target, self._store)

    def selection(self, sizes: Sizes) -> Selection | None:
        """The op's own kernel at these sizes, or None."""
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


class Forced(Kind):
    """The one call of a graph, with a kernel that is not the store's choice."""

    def __init__(self, node: Node, target: DeviceTarget, store: TuningStore, selection: Selection) -> None:
        assert node.op is not None
        super().__init__(node.op, types_of(node.inputs), node.types, node.attrs, target, store)
        self._forced = selection

    def selection(self, sizes: Sizes) -> Selection:
        return self._forced


class Lowered:
    """A graph with the kind of each of its calls (views have none), and the arena of its intermediate values.

    `fusions` are the kinds of fused calls that were thought of, and whether each is served: all that it hangs on.
    """

    def __init__(self, graph: Graph, kinds: Mapping[Node, Kind], fusions: Mapping[Kind, bool]) -> None:
        self.graph, self.kinds, self.fusions = graph, kinds, fusions
        self.distinct = tuple(dict.fromkeys(kinds.values()))

    def suits(self, sizes: Sizes) -> bool:
        """Whether this graph is what runs at these sizes."""
        return all((kind.selection(sizes) is not None) == served for kind, served in self.fusions.items())

    def retyped(self, types: Mapping[TensorType, TensorType], kinds: Mapping[Kind, Kind]) -> Lowered:
        """The same with other types of memory; see `Graph.retyped`."""
        graph = self.graph.retyped(types)
        of_node = {graph.nodes[node.number]: kinds[kind] for node, kind in self.kinds.items()}
        return Lowered(graph, of_node, {kinds[kind]: served for kind, served in self.fusions.items()})

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
    """Gives a graph lowered at any sizes, with nothing fused if `plain`. One thread may use it at a time."""

    def __init__(self, graph: Graph, target: DeviceTarget, store: TuningStore, *, plain: bool = False) -> None:
        for node in graph.calls():
            assert node.op is not None
            require_finite(node.op, node.attrs)
        self._target, self._store = target, store
        fused: dict[Op | None, None] = {}  # those of the graph before others that replace as much
        self._parts = expand(graph, lambda node: fused.setdefault(node.op) is None)
        fused |= {op: None for op in load().values() if op.equals}
        self._fused = () if plain else tuple(op for op in fused if op is not None)
        self._kinds: dict[Any, Kind] = {}
        self._lowered: list[Lowered] = []

    def retyped(self, types: Mapping[TensorType, TensorType]) -> Composer:
        """That of the graph with other types of memory, which knows the lowered graphs that this one does.

        They serve where they suit, as ever: what is served with the new types is asked anew.
        """
        new = copy(self)
        new._parts = self._parts.retyped(types)
        kinds = {kind: kind.retyped(types) for kind in self._kinds.values()}
        new._kinds = {
            (op, tuple(t and types.get(t, t) for t in operands), attrs): kinds[kind]
            for (op, operands, attrs), kind in self._kinds.items()
        }
        new._lowered = [lowered.retyped(types, kinds) for lowered in self._lowered]
        return new

    def at(self, sizes: Sizes) -> Lowered:
        """The graph that runs at `sizes`. Raises UnsupportedError for a call that can neither run nor be composed."""
        lowered = next((known for known in self._lowered if known.suits(sizes)), None)
        if lowered is None:
            lowered = self._lower(sizes)
            self._lowered.append(lowered)
        for kind in lowered.distinct:
            if kind.selection(sizes) is None:
                within = (fused.call(sizes) for fused in lowered.fusions if fused.makes(kind.op))
                raise unserved(kind.call(sizes), *within)
        return lowered

    def _lower(self, sizes: Sizes) -> Lowered:
        fusions: dict[Kind, bool] = {}

        def served(found: Match) -> bool:
            kind = self._kind(found.rule.op, found.operands, found.results, found.attrs)
            fusions[kind] = kind.selection(sizes) is not None
            return fusions[kind]

        graph = fuse_all(self._parts, self._fused, served)
        kinds = {
            node: self._kind(node.op, node.inputs, node.outputs, node.attrs)
            for node in graph.calls()
            if node.op is not None and not node.op.view
        }
        return Lowered(graph, kinds, fusions)

    def _kind(
        self, op: Op, operands: tuple[Value | None, ...], results: tuple[Value, ...], attrs: Mapping[str, Any]
    ) -> Kind:
        key = (op, types_of(operands), exact(op.name, attrs))
        if key not in self._kinds:
            made = tuple(v.type for v in results)
            self._kinds[key] = Kind(op, types_of(operands), made, attrs, self._target, self._store)
        return self._kinds[key]


def forced(graph: Graph, target: DeviceTarget, store: TuningStore, selection: Selection) -> Lowered:
    """The graph of a single call, carried out by this kernel."""
    return Lowered(graph, {node: Forced(node, target, store, selection) for node in graph.calls()}, {})
