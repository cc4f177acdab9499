"""Ops in PyTorch code: without a break under torch.compile, seen by export and tracing, and held to `opcheck`."""

from __future__ import annotations

import itertools

import pytest
import torch
from api.outsiders import OP, write
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import forge
from forge.errors import ShapeError, UnsupportedError
from forge.graph.op import Cost, op
from forge.graph.types import tensor
from forge.kernels import load
from forge.language import interpreted
from forge.lower.library import covered, overloads, schema
from forge.lower.select import call_of
from forge.quant import Packed, pack, random_blocks
from forge.target import TARGETS
from forge.verify import operands

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

OPS = load()
CODES = ("quantize_q8", "rms_norm_q8", "add_rms_norm_q8", "swiglu_q8", "geglu_q8", "paged_attention_q8")
ALONE = dict.fromkeys(CODES, "gives quantized activations") | dict.fromkeys(
    ("dequantize", "linear_q8", "linear_q8_add_rms_norm"), "takes quantized weights alone"
)


def compiled(function, **options):
    """`function` in one graph, or an error; each time anew."""
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, **{"backend": "aot_eager"} | options)


def test_every_op_but_views_and_those_of_packed_tensors_alone_has_an_operator():
    without = {name for name, op in OPS.items() if not covered(op)}
    assert without == {*ALONE, *(name for name, op in OPS.items() if op.view)}


def checked():
    """The small cases of plain tensors that a CPU kernel serves, or those of what the op equals."""
    for op_, case in ((o, c) for o in OPS.values() if covered(o) for c in o.cases if c.small):
        call = call_of(op_, case.types, case.attrs, TARGETS["cpu"])
        served = op_.equals is not None or any(k.serves(call) for k in op_.kernels.values())
        if served and not any(t is not None and t.dtype.quantized for t in case.types):
            yield pytest.param(op_, case, id=f"{op_.name}-{case.name}".replace(" ", "_"))


@pytest.mark.parametrize(("op", "case"), list(checked()))
def test_opcheck_passes(op, case):
    values = operands(op, case)
    result = op(*[None if v is None else v.clone() for v in values], **case.attrs)
    results = result if isinstance(result, tuple) else (result,)
    tests = ["test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"]
    if any(r.isnan().any() for r in results):  # which opcheck takes for a difference between two runs
        tests.remove("test_aot_dispatch_dynamic")
    if any(v is not None and v.dtype == torch.float8_e4m3fn for v in values):
        tests.remove("test_schema")  # which compares by arithmetic that torch has not for this type
    torch.library.opcheck(getattr(overloads, op.key), tuple(values), dict(case.attrs), test_utils=tests)


def test_every_covered_op_is_checked():
    assert {p.values[0].name for p in checked()} == {name for name, o in OPS.items() if covered(o)}


def test_an_op_that_writes_says_what_it_mutates():
    assert schema(OPS["kv_append"]) == "(Tensor(a!) kv, Tensor k, Tensor v, Tensor slots) -> ()"
    assert schema(OPS["layer_norm"]) == '(Tensor x, Tensor w, Tensor? b=None, *, float eps, str out="f16") -> Tensor'
    assert schema(OPS["add_rms_norm"]).endswith("-> (Tensor, Tensor)")


def layer(x, w, kv, slots):
    """Attributes, defaults, views, two results, a state that is written and then read."""
    y = forge.kernels.rms_norm(x, w, eps=1e-5)
    total, normed = forge.kernels.add_rms_norm(x, y * 2, w, eps=1e-5, out="f32")
    k = forge.kernels.split_heads(forge.kernels.columns(y, start=16, stop=32), heads=2)
    kv = forge.kernels.kv_append(kv, k, k, slots)
    return total + normed, forge.kernels.swiglu(y, y).float(), kv.sum()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_function_of_ops_compiles_without_a_break(backend):
    x, w, slots = torch.randn(3, 64).half(), torch.rand(64), torch.tensor([1, 2, 7]).int()
    eager_kv, kv = torch.zeros(2, 3, 2, 4, 8).half(), torch.zeros(2, 3, 2, 4, 8).half()
    expected = layer(x, w, eager_kv, slots)
    got = compiled(layer, backend=backend)(x, w, kv, slots)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert kv.any() and torch.equal(kv, eager_kv)


def test_one_graph_serves_all_sizes_of_a_dynamic_axis():
    graphs = []

    def backend(graph, example):
        graphs.append(graph)
        return graph.forward

    run = compiled(lambda x: forge.kernels.swiglu(x, x), backend=backend, dynamic=True)
    for n in (3, 5, 9):
        assert run(torch.randn(n, 64)).shape == (n, 64)
    assert len(graphs) == 1
    assert "forge.swiglu" in graphs[0].code


def test_what_traces_records_the_operator():
    x = torch.randn(3, 64)
    assert "torch.ops.forge.swiglu.default" in make_fx(lambda a: forge.kernels.swiglu(a, a))(x).code

    class Norm(torch.nn.Module):
        def forward(self, x, w):
            return forge.kernels.rms_norm(x, w, eps=1e-6, out="f32")

    tokens = torch.export.Dim("T", min=2, max=100)
    exported = torch.export.export(Norm(), (x, torch.rand(64)), dynamic_shapes={"x": {0: tokens}, "w": None})
    assert "forge.rms_norm" in str(exported.graph)
    wide, w = torch.randn(7, 64), torch.rand(64)
    torch.testing.assert_close(exported.module()(wide, w), forge.kernels.rms_norm(wide, w, eps=1e-6, out="f32"))
    with FakeTensorMode():
        made = forge.kernels.add_rms_norm(torch.empty(3, 64), torch.empty(3, 64), torch.empty(64), eps=1e-5)
    assert [(tuple(t.shape), t.dtype) for t in made] == [((3, 64), torch.float32), ((3, 64), torch.float16)]


def test_vmap_computes_the_same_for_each():
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(torch.vmap(forge.kernels.softmax)(x), torch.stack([forge.kernels.softmax(a) for a in x]))


def test_a_gradient_is_refused_rather_than_lost():
    x = torch.randn(3, 64, requires_grad=True)
    for call in (forge.kernels.softmax, torch.func.grad(lambda a: forge.kernels.softmax(a).sum())):
        with pytest.raises(UnsupportedError, match=r"(?s)softmax has no backward.*no_grad"):
            call(x)
    with pytest.raises(UnsupportedError, match="softmax has no backward"):  # forwards it would be lost just so
        torch.func.jvp(forge.kernels.softmax, (x.detach(),), (torch.ones(3, 64),))
    with pytest.raises(Exception, match="softmax has no backward"):
        compiled(forge.kernels.softmax)(x)
    with torch.no_grad():
        expected = forge.kernels.softmax(x.detach())
        assert torch.equal(forge.kernels.softmax(x), expected)
        assert torch.equal(compiled(lambda a: forge.kernels.softmax(a))(x), expected)


def test_packed_operands_run_eagerly_and_are_refused_where_they_cannot_be_traced():
    type = tensor("q4_0", 8, 64)
    w = pack(type, random_blocks(type, torch.Generator().manual_seed(0)))
    x = torch.randn(3, 64).bfloat16()
    assert forge.kernels.linear(x, w, out="f32").shape == (3, 8)
    assert isinstance(forge.kernels.quantize_q8(x), Packed)
    with pytest.raises(Exception, match="linear on a quantized operand cannot be traced"):
        compiled(lambda x: forge.kernels.linear(x, w, out="f32"))(x)
    with pytest.raises(Exception, match="quantize_q8 has no PyTorch operator"):
        compiled(lambda x: forge.kernels.quantize_q8(x))(x)
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(UnsupportedError, match="cannot be traced"):
        forge.kernels.linear(x, w)


def test_wrong_operands_are_refused_while_tracing():
    with pytest.raises(ShapeError, match="columns 3:900 are not within the 64 of x"):
        forge.kernels.columns(torch.randn(3, 64), start=3, stop=900)
    with pytest.raises(Exception, match="gate and up must have one type"):
        compiled(lambda x: forge.kernels.swiglu(x, x[:2]))(torch.randn(3, 64))
    with pytest.raises(Exception, match="columns 3:900 are not within the 64 of x"):
        compiled(lambda x: forge.kernels.columns(x, start=3, stop=900))(torch.randn(3, 64))


@pytest.mark.usefixtures("unregistered")
def test_somebody_s_own_op_is_one_too(tmp_path):
    module = forge.register(write(tmp_path, "fifths.py", OP.replace("cube", "fifth_power")))
    x = torch.randn(3, 8)
    torch.testing.assert_close(compiled(lambda a: module.fifth_power(a) + 1)(x), x**3 + 1)
    torch.library.opcheck(getattr(overloads, module.fifth_power.key), (x,))


def test_an_op_that_is_not_registered_is_refused_though_its_name_is_known():
    @op(types=lambda x: x, reference=lambda x: x, cost=lambda x: Cost())
    def softmax(x):
        """y = x"""

    with FakeTensorMode(), pytest.raises(UnsupportedError, match=r"(?s)is not registered.*forge\.register"):
        softmax(torch.empty(3))


def test_the_operators_are_a_module_that_can_be_looked_at():
    """As `inspect` does, which asks every module for its file."""
    assert getattr(overloads, "__file__", None) is None and not hasattr(overloads, "__wrapped__")
    with pytest.raises(UnsupportedError, match="is not registered"):
        _ = overloads.no_such_op


def test_arguments_are_sorted_as_python_sorts_them():
    layer_norm, total = OPS["layer_norm"], 0
    x, w, b = object(), object(), object()
    for names in itertools.permutations(("x", "w", "b", "eps", "out"), 4):
        given = {n: {"x": x, "w": w, "b": b, "eps": 0.5, "out": "f32"}[n] for n in names}
        for count in range(4):
            args = [given[n] for n in names[:count]]
            kwargs = {n: given[n] for n in names[count:]}
            try:
                bound = layer_norm.signature.bind(*args, **kwargs)
            except TypeError:
                with pytest.raises(forge.ForgeError, match=r"layer_norm\(x, w"):
                    layer_norm.bind(args, kwargs)
                continue
            bound.apply_defaults()
            operands_, attrs = layer_norm.bind(args, kwargs)
            assert [*operands_, *attrs.values()] == list(bound.arguments.values())
            total += 1
    assert total > 100
