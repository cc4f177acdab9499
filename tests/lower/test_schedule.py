"""A graph lowered at sizes: fused calls run by their own kernel or composed, in memory that is planned for either."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forge.compiled import CompiledGraph
from forge.errors import UnsupportedError
from forge.graph.ir import Graph
from forge.graph.op import Cost, op
from forge.graph.types import StateType, Sym, tensor
from forge.kernels import load
from forge.language import interpreted
from forge.lower.plan import Plan
from forge.lower.schedule import build
from forge.target import TARGETS
from forge.tune.store import TuningStore

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
OPS = load()
T = Sym("T", 300)
FEW = 8


def tokens(call):
    return call.types[0].concrete()[0]


@op(equals=lambda a, b: OPS["add"](OPS["add"](a, b), b))
def add_twice(a, b):
    """y = a + b + b"""


@add_twice.kernel(on="cpu", when=lambda call: tokens(call) <= FEW)
def add_twice_few(site, y, a, b):
    """For few tokens."""
    return lambda: torch.add(a, b, alpha=2, out=y)


@op(equals=lambda a, b: OPS["add"](OPS["add"](a, b), OPS["add"](b, b)))
def add_crossed(a, b):
    """y = (a + b) + (b + b)"""


@add_crossed.kernel(on="cpu", when=lambda call: tokens(call) <= FEW)
def add_crossed_few(site, y, a, b):
    """For few tokens."""
    return lambda: torch.add(a, b, alpha=3, out=y)


@op(equals=lambda a, b: OPS["add"](OPS["add"](a, b), OPS["add"](b, b)))
def add_even(a, b):
    """y = (a + b) + (b + b)"""


@add_even.kernel(on="cpu", when=lambda call: tokens(call) == 1 or tokens(call) % 2 == 0)
def add_even_planned(site, y, a, b):
    """For all sizes that are planned ahead."""
    return lambda: torch.add(a, b, alpha=3, out=y)


@op(equals=lambda a, b, w, *, eps: OPS["rms_norm"](add_twice(a, b), w, eps=eps, out="f32"))
def add_twice_norm(a, b, w, *, eps):
    """y = rms_norm(a + b + b) * w; it has no kernel"""


@op(equals=lambda x, y, *, residual: OPS["add"](_dense(x, residual), y))
def add_rounded(x, y, *, residual):
    """z = y + x, x rounded to codes and back; it has no kernel"""


def _dense(x, residual):
    return OPS["dequantize"](OPS["quantize_q8"](x, residual=residual), out="f32")


@op(types=lambda x: x, reference=lambda x: x, cost=lambda x: Cost())
def nowhere(x):
    """y = x; nothing can compute it"""


@op(equals=lambda x: OPS["add"](nowhere(x), x))
def nowhere_else(x):
    """y = 2 x, by `equals` over an op without kernels"""


def plan(graph: Graph, target: str = "cpu") -> Plan:
    return Plan(graph, TARGETS[target], TuningStore())


def names(plan: Plan, **sizes: int) -> list[str]:
    return [step.node.op.name for step in plan.schedule(sizes).steps]


def graph_of(build, *types) -> Graph:
    graph = Graph("test")
    graph.output("y", build(*(graph.input(f"x{i}", t) for i, t in enumerate(types))))
    return graph


@pytest.mark.parametrize("size", [1, FEW, FEW + 1, 16, 300])
def test_a_fused_call_runs_by_its_kernel_or_composed(size):
    graph = graph_of(lambda a, b, w: add_twice_norm(a, b, w, eps=1e-6), *[tensor("f32", T, 32)] * 2, tensor("f32", 32))
    few = ["add_twice", "rms_norm"]
    assert names(plan(graph), T=size) == (few if size <= FEW else ["add", "add_rms_norm"])
    given = {f"x{i}": torch.randn(size, 32) for i in range(2)} | {"x2": torch.randn(32)}
    got = CompiledGraph(graph, TARGETS["cpu"]).run(given)["y"]
    expected = add_twice_norm.reference(*given.values(), eps=1e-6)
    assert torch.allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_what_two_composed_calls_have_in_common_is_computed_once():
    x, y = tensor("f32", T, 32), tensor("f32", T, 32)
    once = graph_of(lambda x, y: add_rounded(x, add_rounded(x, y, residual=True), residual=True), x, y)
    assert names(plan(once), T=5) == ["quantize_q8", "dequantize", "add", "add"]
    apart = graph_of(lambda x, y: add_rounded(x, add_rounded(x, y, residual=False), residual=True), x, y)
    assert names(plan(apart), T=5).count("quantize_q8") == 2


def test_what_can_neither_run_nor_be_composed_is_named():
    graph = graph_of(nowhere_else, tensor("f32", T, 32))
    with pytest.raises(UnsupportedError) as caught:
        plan(graph).schedule({"T": 3})
    said = str(caught.value)
    assert "no kernel serves nowhere(x: f32[3,32]) on cpu, as part of nowhere_else(x: f32[3,32])" in said
    assert "kernels of nowhere: none; of nowhere_else, whose `equals` needs it: none" in said


def test_memory_is_planned_for_every_way_to_run():
    """Composed, two sums of many tokens need places at a time that the fused call does without."""
    shapes = [tensor("f32", T, 64)] * 2
    graph = graph_of(lambda a, b: OPS["rms_norm"](add_crossed(a, b), graph_weight(a), eps=1e-6, out="f32"), *shapes)
    graph.output("z", OPS["add"](graph.outputs["y"], graph.outputs["y"]))  # without scratch, after a norm that has some
    made = plan(graph)
    few, many = made.schedule({"T": FEW}), made.schedule({"T": 300})
    assert few.arena < many.arena == made.arena and 0 < few.scratch < many.scratch == made.scratch
    for sizes in made.sizes:
        found = made.schedule(sizes)
        assert found.arena <= made.arena and found.scratch <= made.scratch
        for step in found.steps:
            assert all(0 <= p.offset <= found.arena - p.type.nbytes for p in step.results)
            assert all(0 <= p.offset <= found.scratch - p.type.nbytes for p in step.scratch)


def graph_weight(value):
    return value.node.graph.weight("norm", tensor("f32", 64))


def test_no_memory_grows_while_planned_sizes_are_served():
    graph = graph_of(lambda a, b: OPS["add"](add_twice(a, b), b), *[tensor("f32", T, 64)] * 2)
    executable = CompiledGraph(graph, TARGETS["cpu"]).load()
    allocate, asked, seen = executable._allocate, [], []
    executable._allocate = lambda nbytes, what: (asked.append(what), allocate(nbytes, what))[1]
    executable.prepare_all(lambda done, total: seen.append((done, total)))
    count = len(executable.plan.sizes)
    assert seen == [(i, count) for i in range(1, count + 1)] and not asked
    for sizes in executable.plan.sizes:
        executable.run({n: np.ones((sizes["T"], 64), np.float32) for n in ("x0", "x1")})
    assert len(executable._bindings) == count


def test_sizes_that_are_not_planned_share_the_memory_that_they_need_more():
    graph = graph_of(lambda a, b: OPS["add"](add_even(a, b), b), *[tensor("f32", T, 64)] * 2)
    executable = CompiledGraph(graph, TARGETS["cpu"]).load()
    allocate, asked = executable._allocate, []
    executable._allocate = lambda nbytes, what: (asked.append(what), allocate(nbytes, what))[1]
    for size in (8, 3, 5, 7, 8, 9):
        y = executable.run({"x0": np.full((size, 64), 2, np.float32), "x1": np.ones((size, 64), np.float32)})["y"]
        assert (y == 2 + 3 + 1).all() and y.shape == (size, 64)
    assert asked == ["activations"]


def test_one_schedule_is_built_in_any_memory():
    """Each place of a step is asked for once, and the tasks run in what the memory gives."""
    graph = graph_of(lambda a, b: add_twice(a, OPS["add"](a, b)), *[tensor("f32", T, 4)] * 2)
    found = plan(graph).schedule({"T": 20})
    a, b, asked = torch.randn(20, 4), torch.randn(20, 4), []

    def memory(place):
        asked.append(place)
        return {"x0": a, "x1": b}[place.leaf.name] if place.leaf else torch.empty(place.type.concrete())

    built = build(found, memory)
    built.run()
    assert torch.allclose(built.outputs["y"], a + 2 * (a + b))
    assert len(asked) == 2 + sum(len(s.results) + len(s.scratch) for s in found.steps)


def test_an_op_that_writes_a_state_says_what_of_it_no_kernel_serves():
    @op(types=lambda k: k, reference=lambda k: k, cost=lambda k: Cost())
    def kernelless(k):
        """y = k; it has no kernel"""

    @op(equals=lambda kv, k, slots: OPS["kv_append"](kv, kernelless(k), k, slots), writes="kv")
    def append_kernelless(kv, k, slots):
        """kv with k, at slots"""

    g = Graph()
    kv = g.state("kv", StateType((2, 3, 2, 16, 32), tensor("f16").dtype))
    g.update("kv", append_kernelless(kv, g.input("k", tensor("f16", 4, 2, 32)), g.input("slots", tensor("i32", 4))))
    with pytest.raises(UnsupportedError, match=r"(?s)no kernel serves kernelless\(.*as part of append_kernelless"):
        Plan(g, TARGETS["cpu"], TuningStore()).schedule({})


def test_calls_whose_attributes_are_equal_and_not_the_same_run_as_they_are():
    g = Graph()
    x = g.input("x", tensor("f32", 1, 2))
    for factor in (0.0, -0.0):
        g.output(str(factor), OPS["scale"](x, factor=factor))
    results = CompiledGraph(g, TARGETS["cpu"]).run({"x": np.ones((1, 2), np.float32)})
    assert [bool(y.signbit().all()) for y in results.values()] == [False, True]
