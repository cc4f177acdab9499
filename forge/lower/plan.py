"""The plan: what runs in which order with which kernels, and where everything lies. `str(plan)` is a golden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from forge.graph.ir import Graph, Node
from forge.graph.leaves import Leaf
from forge.graph.types import STATE_KINDS, StateType, TensorType
from forge.lower.compose import Composer, Lowered
from forge.lower.memory import owner, workspace_offsets
from forge.lower.schedule import Schedule, schedule
from forge.lower.sizes import Sizes, decoding, planned
from forge.lower.weights import Storage, agree, natural
from forge.target import DeviceTarget
from forge.tune.store import TuningStore

# Bytes set aside for graphs of captured steps. On an H100 the first one takes 72 MiB, and the next ones, of 445
# launches each, come out of these.
FIRST_GRAPH = 96 << 20
GRAPH = 4 << 20


@dataclass(frozen=True)
class Plan:
    """An optimized graph with its memory and its weights' layouts, for one target. Immutable.

    A `plain` one is for looking into a defect: no calls are fused, and no steps are replayed.
    What is asked of it is worked out on first use, by one thread at a time.
    """

    graph: Graph
    target: DeviceTarget
    store: TuningStore
    plain: bool = False

    def with_pages(self, pages: int) -> Plan:
        """The plan of the same graph with so many pages; what is known of this one is known of that."""
        types: dict[TensorType, TensorType] = {}
        for leaf in self.graph.states("pages"):
            one, _, *rest = leaf.types[0].shape
            types[leaf.types[0]] = StateType((one, pages, *rest), leaf.types[0].dtype)
        found = Plan(self.graph.retyped(types), self.target, self.store, self.plain)
        found.__dict__["_composer"] = self._composer.retyped(types)  # as if it had been worked out
        return found

    def schedule(self, sizes: Sizes) -> Schedule:
        """What runs when the symbols have these sizes."""
        return schedule(self._composer.at(sizes), sizes)

    @cached_property
    def sizes(self) -> tuple[Sizes, ...]:
        """The sizes that are planned ahead, smallest first: those that steps are padded to on a GPU."""
        return planned(self.bounds)

    @cached_property
    def bounds(self) -> Mapping[str, int]:
        """The most that each symbol may be."""
        return {name: sym.max for name, sym in self.graph.symbols.items()}

    @cached_property
    def arena(self) -> int:
        """Bytes for intermediate values, enough for any of the sizes planned ahead."""
        return max(lowered.arena.nbytes for lowered in self._ahead)

    @cached_property
    def scratch(self) -> int:
        """Bytes of scratch that the hungriest call wants at any of the sizes planned ahead; calls share it."""
        wanted = (
            workspace_offsets(selection.workspace)[1]
            for lowered, sizes in self._ahead.items()
            for kind in lowered.distinct
            for selection in kind.selections(sizes)
        )
        return max(wanted, default=0)

    @cached_property
    def graphs(self) -> int:
        """Bytes of the device's memory for the graphs of captured steps: what they take beyond goes, see `replay`."""
        return FIRST_GRAPH + GRAPH * sum(map(decoding, self.sizes))

    @cached_property
    def weights(self) -> dict[Node, Storage]:
        """How each weight is kept: in a layout that every kernel takes which reads it at a size planned ahead."""
        wishes: dict[Leaf | None, dict[tuple[str, ...], None]] = {}
        for lowered, sizes in self._ahead.items():
            layouts = {kind: [s.layouts for s in kind.selections(sizes)] for kind in lowered.distinct}
            for leaf, operand, kind in lowered.weights:
                found = wishes.setdefault(leaf.leaf, {})
                found.update(dict.fromkeys(each.get(operand, (natural(leaf.types[0]),)) for each in layouts[kind]))
        return {n: Storage(n, agree(n, tuple(wishes.get(n.leaf, ())))) for n in self.graph.leaves("weight")}

    @cached_property
    def _ahead(self) -> Mapping[Lowered, list[Sizes]]:
        """The graphs that run at the sizes planned ahead, each with its sizes."""
        found: dict[Lowered, list[Sizes]] = {}
        for sizes in self.sizes:
            found.setdefault(self._composer.at(sizes), []).append(sizes)
        return found

    @cached_property
    def _composer(self) -> Composer:
        return Composer(self.graph, self.target, self.store, plain=self.plain)

    @property
    def weight_bytes(self) -> int:
        """Of weights, and of the graph's constants."""
        constants = sum(n.types[0].nbytes for n in self.graph.leaves("constant"))
        return constants + sum(s.nbytes for s in self.weights.values())

    def state_bytes(self, kind: str) -> int:
        """Of the states of one kind, "pages" or "sequence"."""
        return sum(n.types[0].nbytes for n in self.graph.states(kind))

    def __str__(self) -> str:
        return self.describe(self.sizes[-1])

    def describe(self, sizes: Sizes) -> str:
        """The plan at the given sizes: memory, then a line a step."""
        shown = ", ".join(f"{n}={s}" for n, s in sizes.items())
        state = sum(self.state_bytes(kind) for kind in STATE_KINDS)
        lines = [
            f"plan {self.graph.name} for {self.target} at {shown}",
            f"weights {self.weight_bytes:,} B  state {state:,} B  arena {self.arena:,} B  scratch {self.scratch:,} B",
        ]
        found = self.schedule(sizes)
        for step in found.steps:
            node = step.node
            types = ", ".join(str(t.bind(sizes)) for t in node.types)
            places = " ".join(str(found.places[owner(value)]) for value in node.outputs)
            how = "view" if step.selection is None else step.selection
            lines.append(f"%{node.number} {node.op and node.op.name} {how} : {types} {places}")
        for leaf, storage in self.weights.items():
            lines.append(f"{leaf.label} : {leaf.types[0]} {storage.layout} {storage.nbytes:,} B")
        return "\n".join(lines) + "\n"
