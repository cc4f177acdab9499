"""Linears of quantized activations: codes for few tokens, the numbers themselves for many, and codes made once."""

from __future__ import annotations

import pytest
from kernels.harness import INTERPRETER, OPS

from forge.graph.ir import Graph
from forge.graph.op import Case
from forge.graph.passes import optimize
from forge.graph.types import Sym, tensor
from forge.language import interpreted
from forge.lower.eager import run
from forge.lower.pipeline import options
from forge.lower.plan import Plan
from forge.quant import dense
from forge.target import TARGETS
from forge.tune.store import TuningStore
from forge.verify import compare, operands

T = Sym("T", 2048)


def plan(target: str, activations: str) -> Plan:
    """Two projections of one x, by weights of two types."""
    graph = Graph("projections")
    x = graph.input("x", tensor("f16", T, 256))
    graph.output("q", OPS["linear"](x, graph.weight("q", tensor("q4_K", 64, 256))))
    graph.output("v", OPS["linear"](x, graph.weight("v", tensor("q6_K", 32, 256))))
    return Plan(optimize(graph, options(activations)), TARGETS[target], TuningStore())


@pytest.mark.cpu
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
@pytest.mark.parametrize("activations", ["a16", "a8"])
@pytest.mark.parametrize("target", ["gfx942", "sm_90"])
def test_many_tokens_are_not_quantized_and_few_are_once(target, activations):
    made = plan(target, activations)
    for tokens, kernel in ((5, "tall"), (64, "tall"), (65, "tile"), (511, "tile"), (512, "library")):
        many = made.describe({"T": tokens})
        assert many.count(f"linear_q8_{kernel}") == 2 and "quantize" not in many and activations not in many
    few = made.describe({"T": 4})
    assert few.count("linear_gemv") == 2 and few.count("quantize_q8 quantize_q8_groups") == 1


@pytest.mark.cpu
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
@pytest.mark.parametrize(
    ("w", "bias", "out", "codes"),
    [
        ("q4_K", True, "f16", {1, 4}),
        ("q4_K", False, "f32", {1, 4, 65, 512, 2048}),
        ("iq4_nl", False, "f16", {1, 4, 16}),
        ("iq4_nl", False, "f32", {1, 4, 16, 65, 512, 2048}),
    ],
)
def test_what_no_kernel_takes_as_it_is_is_composed_of_codes(w, bias, out, codes):
    graph = Graph("projection")
    x, b = graph.input("x", tensor("f16", T, 256)), graph.weight("b", tensor("f32", 64)) if bias else None
    graph.output("y", OPS["linear"](x, graph.weight("w", tensor(w, 64, 256)), b, out=out))
    made = Plan(optimize(graph, options("a16")), TARGETS["gfx942"], TuningStore())
    for size in (1, 4, 16, 65, 512, 2048):
        expected = ["quantize_q8", "linear"] if size in codes else ["linear_q8"]
        assert [s.node.op.name for s in made.schedule({"T": size}).steps] == expected


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("residual", [True, False])
def test_many_tokens_are_as_exact_as_floating_activations(residual):
    """Nothing of x is rounded, whatever codes few tokens would be given."""
    case = Case("many", (tensor("f16", 512, 256), tensor("q4_K", 8, 256), None))
    x, w, _ = operands(OPS["linear"], case)
    got = run(OPS["linear_q8"], (x, w, None), {"residual": residual, "out": "f16"}, INTERPRETER)
    compare(got, OPS["linear"].reference(x, dense(w), None, out="f16"), "many tokens")
