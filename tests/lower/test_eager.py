"""Ops called on tensors: what tells calls apart, and what is refused before a kernel could read it wrongly."""

from __future__ import annotations

import pytest
import torch
from kernels.harness import INTERPRETER

from forge.errors import GraphError
from forge.graph.op import Cost, op
from forge.graph.types import tensor
from forge.kernels import load
from forge.kernels.scale import _scale, scale
from forge.language import interpreted
from forge.lower.eager import run
from forge.lower.values import empty, type_of
from forge.target import TARGETS

OPS = load()
TARGET = INTERPRETER if interpreted() else TARGETS["cpu"]


@pytest.mark.cpu
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
def test_calls_whose_attributes_are_equal_and_not_the_same_are_two():
    x = torch.ones(1, 2)
    for factor in (0.0, -0.0, 0.0):
        assert torch.equal(scale(x, factor=factor).signbit(), torch.tensor([[factor, factor]]).signbit())


PAGES, Q, K = tensor("f16", 2, 3, 1, 16, 32), tensor("f16", 0, 2, 32), tensor("f16", 0, 1, 32)
ONE, NONE = tensor("i32", 1), tensor("i32", 0)
NOTHING = [
    ("add", (tensor("f32", 0, 8),) * 2, {}),
    ("add", (tensor("f32", 3, 0),) * 2, {}),
    ("scale", (tensor("f32", 0, 8),), {"factor": 2.0}),
    ("softmax", (tensor("f32", 0, 8),), {}),
    ("softmax", (tensor("f32", 3, 0),), {}),
    ("swiglu", (tensor("f16", 0, 8),) * 2, {}),
    ("rms_norm", (tensor("f32", 0, 8), tensor("f32", 8)), {"eps": 1e-6}),
    ("add_rms_norm", (tensor("f32", 0, 8), tensor("f32", 0, 8), tensor("f32", 8)), {"eps": 1e-6}),
    ("layer_norm", (tensor("f32", 0, 8), tensor("f32", 8)), {"eps": 1e-6}),
    ("rope", (tensor("f16", 0, 2, 32), tensor("f32", 0, 16, 2)), {"pairs": "norm"}),
    ("rotation", (NONE, tensor("f64", 16)), {}),
    ("take", (tensor("f32", 4, 8), NONE), {}),
    ("embed", (NONE, tensor("f16", 4, 8)), {}),
    ("argmax", (tensor("f32", 0, 8),), {}),
    ("linear", (tensor("f32", 0, 64), tensor("f32", 8, 64)), {}),
    ("quantize_q8", (tensor("f16", 0, 64),), {}),
    ("flash_attention", (tensor("f16", 2, 0, 2, 32), *(tensor("f16", 2, 5, 1, 32),) * 2), {"scale": 1.0}),
    ("paged_attention", (Q, PAGES, tensor("i32", 1, 3), ONE, ONE, ONE), {"scale": 1.0}),
    ("kv_append", (PAGES, K, K, NONE), {}),
]


@pytest.mark.cpu
@pytest.mark.interpret
@pytest.mark.parametrize(("name", "types", "attrs"), NOTHING)
def test_of_nothing_every_device_makes_nothing(name, types, attrs):
    """Though no device launches a grid of no program."""
    of = OPS[name]
    given, attrs = of.bind([empty(t, "cpu") for t in types], attrs)
    made = run(of, given, attrs, TARGET)
    if of.writes:
        assert made is given[of.operands.index(of.writes)]
        return
    expected = of.infer(tuple(type_of(v) for v in given), attrs)
    assert tuple(type_of(v) for v in (made if isinstance(made, tuple) else (made,))) == expected


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
def test_a_kernel_that_would_leave_a_result_unwritten_is_an_error():
    @op(types=lambda x: tensor("f32", 1), reference=lambda x: x.sum()[None], cost=lambda x: Cost())
    def total(x):
        """y = the sum of x"""

    @total.kernel()
    def total_elements(site, y, x):
        return site.launch(_scale, (len(x),), y, x, 0, 0, 1)

    with pytest.raises(GraphError, match="total_elements leaves a result unwritten"):
        run(total, (torch.empty(0),), {}, TARGET)
