"""The plan: what runs in which order with which kernels, and where everything lies. `str(plan)` is a golden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from forge.graph.ir import Graph, Node, types_of
from forge.graph.op import Call
from forge.lower.memory import Arena, owner, plan_arena, workspace_offsets
from forge.lower.select import Selection, select
from forge.lower.weights import Storage, plan_weights
from forge.target import DeviceTarget
from forge.tune.store import TuningStore

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Plan:
    """An optimized graph with its arena, its weights' layouts and its scratch memory, for one target. Immutable."""

    graph: Graph
    target: DeviceTarget
    store: TuningStore

    def selections(self, sizes: Sizes) -> Iterator[tuple[Node, Selection]]:
        """The kernel and configuration of each call when the symbols have these sizes; views have none."""
        for node in self.graph.calls():
            assert node.op is not None
            if node.op.view:
                continue
            types = tuple(t and t.bind(sizes) for t in types_of(node.inputs))
            call = Call(node.op, types, tuple(t.bind(sizes) for t in node.types), node.attrs, self.target)
            yield node, select(call, self.store)

    @cached_property
    def ladder(self) -> tuple[Sizes, ...]:
        """Sizes at which kernels and scratch are looked at ahead: powers of two of tokens, with few and many rows."""
        most = {name: sym.max for name, sym in self.graph.symbols.items()}
        if not most:
            return ({},)
        out: list[Sizes] = []
        tokens = 1
        while True:
            tokens = min(tokens, most.get("T", 1))
            for few in (True, False):
                out.append({n: 1 if few and n != "T" else min(tokens, bound) for n, bound in most.items()})
            if tokens == most.get("T", 1):
                return tuple(out)
            tokens *= 2

    @cached_property
    def arena(self) -> Arena:
        return plan_arena(self.graph)

    @cached_property
    def _ahead(self) -> list[tuple[Node, Selection]]:
        """Every selection at every size of the ladder: the costly part of planning, so made once."""
        return [chosen for sizes in self.ladder for chosen in self.selections(sizes)]

    @cached_property
    def scratch(self) -> int:
        """Bytes of scratch that the hungriest call wants at any of the sizes looked at; calls share it."""
        return max((workspace_offsets(s.workspace)[1] for _, s in self._ahead), default=0)

    @cached_property
    def weights(self) -> dict[Node, Storage]:
        chosen: dict[Node, list[Selection]] = {}
        for node, selection in self._ahead:
            chosen.setdefault(node, []).append(selection)
        return plan_weights(self.graph, chosen)

    @property
    def weight_bytes(self) -> int:
        """Of weights, and of the graph's constants."""
        constants = sum(n.types[0].nbytes for n in self.graph.leaves("constant"))
        return constants + sum(s.nbytes for s in self.weights.values())

    @property
    def state_bytes(self) -> int:
        return sum(n.types[0].nbytes for n in self.graph.leaves("state"))

    def __str__(self) -> str:
        return self.describe(self.ladder[-1])

    def describe(self, sizes: Sizes) -> str:
        """The plan at the given sizes: memory, then a line a step."""
        shown = ", ".join(f"{n}={s}" for n, s in sizes.items())
        lines = [
            f"plan {self.graph.name} for {self.target} at {shown}",
            f"weights {self.weight_bytes:,} B  state {self.state_bytes:,} B  arena {self.arena.nbytes:,} B  "
            f"scratch {self.scratch:,} B",
        ]
        chosen = dict(self.selections(sizes))
        for node in self.graph.calls():
            assert node.op is not None
            types = ", ".join(str(t.bind(sizes)) for t in node.types)
            how = "view" if node.op.view else str(chosen[node])
            lines.append(f"%{node.number} {node.op.name} {how} : {types} {self._places(node)}".rstrip())
        for leaf, storage in self.weights.items():
            lines.append(f"{leaf.label} : {leaf.types[0]} {storage.layout} {storage.nbytes:,} B")
        return "\n".join(lines) + "\n"

    def _places(self, node: Node) -> str:
        places = []
        for value in node.outputs:
            slot = self.arena.slots.get(owner(value))
            places.append(f"@{slot.offset}" if slot else f"in {owner(value).node.label}")
        return " ".join(places)
