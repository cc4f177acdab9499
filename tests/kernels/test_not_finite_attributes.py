"""Faults 3: an attribute that is NaN or infinite is refused when its call is compiled, whichever op has it."""

from __future__ import annotations

import pytest
from kernels.harness import OPS

import forge
from forge.errors import ShapeError
from forge.graph.ir import Graph
from forge.graph.types import tensor
from forge.lower.select import call_of
from forge.target import TARGETS

pytestmark = pytest.mark.cpu
GIVEN = [
    pytest.param(op, case, name, id=f"{op.name}-{name}")
    for op in OPS.values()
    for case in op.cases[:1]
    for name, value in op.bind(case.types, case.attrs)[1].items()
    if isinstance(value, float)
]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("op", "case", "name"), GIVEN)
def test_faults_3_attributes_must_be_finite(op, case, name, value):
    operands, attrs = op.bind(case.types, case.attrs)
    with pytest.raises(ShapeError, match=name):
        call_of(op, operands, {**attrs, name: value}, TARGETS["cpu"])


def test_every_op_with_numbers_is_tried():
    assert {"rms_norm", "paged_attention", "flash_attention"} <= {p.values[0].name for p in GIVEN}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_faults_3_a_graph_with_such_an_attribute_is_refused_at_compile(value):
    with pytest.raises(ShapeError, match="factor"):
        graph = Graph("scaled")
        graph.output("y", OPS["scale"](graph.input("x", tensor("f32", 4, 8)), factor=value))
        _ = forge.compile_graph(graph, target="cpu").plan.sizes
