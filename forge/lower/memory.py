"""The memory plan: every intermediate value at an offset of one arena, by liveness.

Sizes are upper bounds (each symbol at its maximum), so that offsets never change: a step with fewer tokens uses the
front of each value's range. Two values share bytes only if one is dead before the other is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forge.graph.ir import Graph, Value
from forge.graph.types import TensorType
from forge.lower.values import activation_planes

ALIGNMENT = 256  # bytes: a multiple of what kernels assume of pointers (16) and of a cache line of any target


@dataclass(frozen=True)
class Slot:
    """A range of the arena, and the numbers of the nodes between which its value lives."""

    offset: int
    nbytes: int
    born: int
    dies: int


@dataclass(frozen=True)
class Arena:
    """Where each value that owns memory lies. Views and new versions of state own none: see `owner`."""

    slots: Mapping[Value, Slot]
    nbytes: int


def align(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def owner(value: Value) -> Value:
    """The value whose memory `value` is: views lead to what they view, state versions to the state."""
    node = value.node
    while node.op is not None and (node.op.view or (node.op.writes and value.index == 0)):
        source = node.inputs[0 if node.op.view else node.op.operands.index(node.op.writes or "")]
        assert source is not None
        value, node = source, source.node
    return value


def stored_bytes(type: TensorType) -> int:
    """Bytes a value of `type` takes in the arena, each plane of a quantized activation aligned."""
    planes = activation_planes(type) or {"": type}
    return sum(align(plane.nbytes) for plane in planes.values())


def plan_arena(graph: Graph) -> Arena:
    """Give every call's results an offset: the lowest gap that is free for as long as the value lives."""
    dies = _last_uses(graph)
    slots: dict[Value, Slot] = {}
    total = 0
    for node in graph.calls():
        for value in node.outputs:
            if owner(value) != value:
                continue
            nbytes, last = stored_bytes(value.type.upper()), dies.get(value, node.number)
            alive = sorted((s.offset, s.nbytes) for s in slots.values() if s.dies >= node.number)
            offset = 0
            for start, length in alive:
                if start - offset >= nbytes:
                    break
                offset = max(offset, start + length)
            slots[value] = Slot(offset, nbytes, node.number, last)
            total = max(total, offset + nbytes)
    return Arena(slots, total)


def _last_uses(graph: Graph) -> dict[Value, int]:
    """For each value that owns memory, the number of the last node that reads it or a view of it."""
    last: dict[Value, int] = {}
    for node in graph.calls():
        for value in node.inputs:
            if value is not None:
                last[owner(value)] = node.number
    for value in graph.outputs.values():
        last[owner(value)] = len(graph.nodes)
    return last


def workspace_offsets(types: tuple[TensorType, ...]) -> tuple[list[int], int]:
    """Offsets of scratch tensors laid one after another, and their total size."""
    offsets, total = [], 0
    for type in types:
        offsets.append(total)
        total += stored_bytes(type)
    return offsets, total
