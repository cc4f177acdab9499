"""The schedule of a graph at given sizes: its steps in order, and where every tensor lies.

A schedule is data and holds no memory. `build` makes it into tasks, given a memory that says what tensor a place is:
those of a running model, meta tensors to compile for an absent device, poisoned ones to verify, fresh ones for a
single call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from forge.errors import GraphError
from forge.graph.ir import Graph, Node, Value
from forge.graph.leaves import Leaf
from forge.graph.op import Op, Types
from forge.graph.types import TensorType
from forge.lower.compose import Composer, Lowered, forced
from forge.lower.launch import Task
from forge.lower.memory import workspace_offsets
from forge.lower.select import Selection
from forge.lower.sizes import Sizes
from forge.target import DeviceTarget
from forge.tune.store import TuningStore


@dataclass(frozen=True)
class Place:
    """Where a tensor of `type` lies: in a leaf's memory, or at an offset in bytes of the arena or of scratch.

    `room` is "input", "weight", "constant", "state", "arena" or "scratch".
    """

    room: str
    type: TensorType
    leaf: Leaf | None = None
    offset: int = 0

    def __str__(self) -> str:
        return f"in {self.leaf.kind} {self.leaf.name}" if self.leaf else f"@{self.offset}"


Memory = Callable[[Place], Any]


@dataclass(frozen=True)
class Step:
    """One call of the lowered graph: the kernel with its configuration, and the places of its results and scratch.

    A view has no kernel. Results are those that the kernel makes: a new version of a state lies where the state does.
    """

    node: Node
    selection: Selection | None
    results: tuple[Place, ...]
    scratch: tuple[Place, ...]


@dataclass(frozen=True)
class Schedule:
    """The steps of `graph`, which is a plan's as lowered at `sizes`.

    `places` has the leaves and every result that owns memory; of views and new versions of a state see `memory.owner`.
    """

    graph: Graph
    sizes: Sizes
    places: Mapping[Value, Place]
    steps: tuple[Step, ...]
    arena: int  # bytes
    scratch: int


@dataclass(frozen=True)
class Built:
    """The tasks of a schedule, each beside the call that it is part of, and the tensors of the outputs."""

    tasks: tuple[tuple[Node, Task], ...]
    outputs: Mapping[str, Any]

    def run(self) -> None:
        for _, task in self.tasks:
            task()


def schedule(lowered: Lowered, sizes: Sizes) -> Schedule:
    """The steps at `sizes` of a graph lowered for them."""
    places = {Value(n): Place(n.kind, n.types[0].bind(sizes), n.leaf) for n in lowered.graph.nodes if n.leaf}
    steps, scratch = [], 0
    for node in lowered.graph.calls():
        assert node.op is not None
        if node.op.view:
            steps.append(Step(node, None, (), ()))
            continue
        selection = lowered.kinds[node].selection(sizes)
        assert selection is not None
        made = node.outputs[1 if node.op.writes else 0 :]
        places |= {v: Place("arena", v.type.bind(sizes), offset=lowered.arena.slots[v].offset) for v in made}
        offsets, total = workspace_offsets(selection.workspace)
        work = (Place("scratch", t, offset=at) for at, t in zip(offsets, selection.workspace, strict=True))
        scratch = max(scratch, total)
        steps.append(Step(node, selection, tuple(places[v] for v in made), tuple(work)))
    return Schedule(lowered.graph, sizes, places, tuple(steps), lowered.arena.nbytes, scratch)


def of_call(
    op: Op,
    types: Types,
    attrs: Mapping[str, Any],
    target: DeviceTarget,
    store: TuningStore,
    choice: Selection | None = None,
) -> Schedule:
    """The schedule of one call, by itself or with the kernel `choice`. Its operands are inputs named as the op does,
    and its outputs are named by their numbers. Raises ShapeError and UnsupportedError."""
    graph = Graph(op.name)
    operands = (None if t is None else graph.input(n, t) for n, t in zip(op.operands, types, strict=True))
    made = graph.call(op, *operands, **attrs)
    for i, value in enumerate(made if isinstance(made, tuple) else (made,)):
        graph.output(str(i), value)
    if choice is not None:
        return schedule(forced(graph, target, store, choice), {})
    return schedule(Composer(graph, target, store).at({}), {})


def build(schedule: Schedule, memory: Memory) -> Built:
    """The tasks that carry out a schedule in `memory`, which is asked once for each place of a step."""
    tensors = {value: memory(place) for value, place in schedule.places.items() if place.leaf}
    tasks: list[tuple[Node, Task]] = []
    for step in schedule.steps:
        op = step.node.op
        assert op is not None
        operands = tuple(None if v is None else tensors[v] for v in step.node.inputs)
        if step.selection is None:
            tensors[Value(step.node)] = _view(step.node, operands)
            continue
        made = tuple(memory(place) for place in step.results)
        kept = (operands[op.operands.index(op.writes)],) if op.writes else ()
        tensors.update(zip(step.node.outputs, (*kept, *made), strict=True))
        work = tuple(memory(place) for place in step.scratch)
        tasks += ((step.node, task) for task in step.selection.build(made, operands, work))
    return Built(tuple(tasks), {name: tensors[value] for name, value in schedule.graph.outputs.items()})


def _view(node: Node, operands: tuple[Any, ...]) -> Any:
    assert node.op is not None
    view = node.op.reference(*operands, **node.attrs)
    if view.untyped_storage().data_ptr() != operands[0].untyped_storage().data_ptr():
        raise GraphError(f"{node.label} copies where it must view: its operand's rows lie apart")
    return view
