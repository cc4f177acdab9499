"""The arena: no value is written over while a later call, or the caller, still reads it."""

from __future__ import annotations

from itertools import combinations

import pytest
from graph.toy import KV, F, append, plus, plus_scale, recall, scale
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.graph.ir import Graph, Value
from forge.graph.op import Cost, op
from forge.lower.memory import ALIGNMENT, Arena, plan_arena

pytestmark = pytest.mark.null


@op(types=lambda x: x, reference=lambda x: x, cost=lambda x: Cost(), view=True)
def same(x):
    """y = x, where x lies"""


def source(value: Value) -> Value:
    """What a chain of views looks at."""
    while value.node.op is same:
        value = value.node.inputs[0]
    return value


def check_apart(arena: Arena) -> None:
    """Values that are alive together do not overlap."""
    for (a, x), (b, y) in combinations(arena.slots.items(), 2):
        together = x.born <= y.dies and y.born <= x.dies
        apart = x.offset + x.nbytes <= y.offset or y.offset + y.nbytes <= x.offset
        assert apart or not together, f"{a.node.label} and {b.node.label} overlap in the arena"


def carry_out(graph: Graph) -> None:
    """Write every result where the plan puts it, and look before and after at what a call reads."""
    arena = plan_arena(graph)
    check_apart(arena)
    holds: dict[int, Value] = {}  # who wrote a piece of the arena last

    def whole(value: Value) -> bool:
        value = source(value)
        if value not in arena.slots:  # an input
            return value.node.op is None
        slot = arena.slots[value]
        assert slot.offset % ALIGNMENT == 0 and slot.nbytes >= value.type.nbytes
        assert slot.offset + slot.nbytes <= arena.nbytes
        return all(holds.get(at) == value for at in range(slot.offset, slot.offset + slot.nbytes, ALIGNMENT))

    for node in graph.calls():
        operands = [v for v in node.inputs if v is not None]
        assert all(map(whole, operands)), f"an operand of {node.label} was written over"
        if node.op is not same:
            for value in node.outputs:
                slot = arena.slots[value]
                holds |= dict.fromkeys(range(slot.offset, slot.offset + slot.nbytes, ALIGNMENT), value)
            assert all(map(whole, (*operands, *node.outputs))), f"{node.label} writes over what it reads or gives"
    assert all(map(whole, graph.outputs.values())), "a result was written over"


@st.composite
def graphs(draw):
    g = Graph("random")
    values = [g.input("a", F), g.input("b", F)]
    for i in range(draw(st.integers(1, 25))):
        recent = st.sampled_from(values[-6:])
        match draw(st.sampled_from(["plus", "scale", "same", "both"])):
            case "plus":
                values.append(plus(draw(recent), draw(recent)))
            case "scale":
                values.append(scale(draw(recent), by=i))
            case "same":
                values.append(same(draw(recent)))
            case _:
                values += plus_scale(draw(recent), draw(recent), by=i)
    for i in range(draw(st.integers(1, 3))):
        g.output(f"y{i}", draw(st.sampled_from(values)))
    return g


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_no_value_is_written_over_while_it_is_read(graph):
    carry_out(graph)


def test_memory_is_used_again():
    g = Graph()
    x = g.input("a", F)
    for i in range(20):
        x = scale(x, by=i)
    g.output("y", x)
    assert plan_arena(g).nbytes == 2 * ALIGNMENT
    carry_out(g)


def test_versions_of_a_state_take_no_room():
    g = Graph()
    kv = append(g.state("kv", KV), scale(g.input("a", F), by=2))
    g.update("kv", kv)
    g.output("y", recall(kv))
    assert [v.node.op.name for v in plan_arena(g).slots] == ["scale", "recall"]
