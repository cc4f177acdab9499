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


SOME = torch.ones(2, 8)


@pytest.mark.cpu
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
@pytest.mark.parametrize(
    ("name", "operands", "attrs", "says"),
    [
        ("add", (SOME, None), {}, r"add\(a: f32\[2,8\]\): b must not be None"),
        ("add", (None, None), {}, "add: each of its operands is None"),
        ("add", (SOME, SOME.numpy()), {}, "add: b is of the type ndarray, no tensor"),
        ("columns", (SOME.numpy(),), {"start": 0, "stop": 4}, "columns: x is of the type ndarray, no tensor"),
        ("add", (SOME, 1.5), {}, "add: b is of the type float, no tensor"),
        ("rms_norm", (SOME, SOME[0]), {"eps": "1"}, r"rms_norm\(x: .*, eps='1', out='f16'\): TypeError"),
        ("columns", (SOME,), {"start": 0, "stop": None}, r"columns\(.*stop=None\): TypeError"),
        ("scale", (SOME,), {"factor": "2"}, r"scale\(.*factor='2'\): TypeError"),
    ],
)
def test_operands_and_attributes_that_are_none_of_an_op_s_are_named(name, operands, attrs, says):
    with pytest.raises(GraphError, match=says):
        OPS[name](*operands, **attrs)


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


def made(dt, *shape):
    return torch.randn(shape).to(getattr(torch, dt))


SQUARE, ROWS, PAIR = made("float32", 8, 8), torch.zeros(8, dtype=torch.int32), made("float16", 2, 3, 2, 16, 32)
ACROSS = PAIR.transpose(1, 2).contiguous().transpose(1, 2)  # heads before pages in memory
HEADS, TURNS = made("float16", 4, 2, 32), made("float32", 4, 16, 2)
SLOTS, TABLE, ZERO = torch.arange(4).int(), torch.zeros(1, 3).int(), torch.zeros(1).int()
GAPS = {
    "add: b:": lambda: ("add", (SQUARE, SQUARE.t()), {}),
    "softmax: x:": lambda: ("softmax", (SQUARE.t(),), {}),
    "linear: w:": lambda: ("linear", (SQUARE, SQUARE.t()), {"out": "f32"}),
    "rms_norm: w:": lambda: ("rms_norm", (SQUARE, made("float32", 16)[::2]), {"eps": 1e-6}),
    "rms_norm: w: f32.8. lies in strides of .0": lambda: (
        "rms_norm", (SQUARE, torch.ones(1).expand(8)), {"eps": 1e-6}
    ),
    "take: rows:": lambda: ("take", (SQUARE, ROWS[::2]), {}),
    "swiglu: gate:": lambda: ("swiglu", (made("float32", 8, 16)[:, ::2],) * 2, {}),
    "kv_append: kv:": lambda: ("kv_append", (ACROSS, HEADS, HEADS, SLOTS), {}),
    "kv_append: the kernel takes k dense": lambda: (
        "kv_append", (PAIR, HEADS.transpose(0, 1).contiguous().transpose(0, 1), HEADS, SLOTS), {}
    ),
    "kv_append: slots:": lambda: ("kv_append", (PAIR, HEADS, HEADS, torch.arange(8).int()[::2]), {}),
    "rope: the kernel takes rotation dense": lambda: (
        "rope", (HEADS, made("float32", 4, 32, 2)[:, :16]), {"pairs": "norm"}
    ),
    "paged_attention: the kernel takes kv dense": lambda: (
        "paged_attention", (HEADS, ACROSS, TABLE, ZERO, ZERO, ZERO),
        {"scale": 1.0},
    ),
}  # fmt: skip


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("says", GAPS)
def test_operands_with_gaps_that_a_kernel_does_not_know_of_are_refused(says):
    name, operands, attrs = GAPS[says]()
    operands, attrs = OPS[name].bind(operands, attrs)
    with pytest.raises(GraphError, match=rf"(?s){says}.*\.contiguous\(\)"):
        run(OPS[name], operands, attrs, TARGET)


APART = {
    "rows": lambda: ("add", (made("float32", 4, 16)[:, :8], made("float32", 8, 8)[::2]), {}),
    "one row of a tensor that lies across": lambda: ("softmax", (made("float32", 5, 2).t()[:, :1],), {}),
    "rows that are one": lambda: ("add", (SQUARE[:4], SQUARE[:1].expand(4, 8)), {}),
    "heads": lambda: ("rope", (made("float16", 4, 96)[:, 32:].unflatten(1, (2, 32)), TURNS), {"pairs": "norm"}),
    "heads before tokens": lambda: ("rope", (made("float16", 2, 4, 32).transpose(0, 1), TURNS), {"pairs": "norm"}),
    "a table": lambda: ("embed", (ROWS, made("float32", 8, 16)[:, :8]), {}),
    "everything but a head": lambda: (
        "flash_attention", [made("float16", 2, 5, 1, 32).transpose(1, 2).flip(0).transpose(1, 2)] * 3, {"scale": 1.0}
    ),
}  # fmt: skip


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("what", APART)
def test_what_may_lie_apart_gives_what_it_gives_dense(what):
    name, operands, attrs = APART[what]()
    operands, attrs = OPS[name].bind(operands, attrs)
    dense = tuple(None if o is None else o.contiguous() for o in operands)
    assert torch.equal(run(OPS[name], operands, attrs, TARGET), run(OPS[name], dense, attrs, TARGET))
