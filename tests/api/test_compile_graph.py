"""`forge.compile_graph`: its arguments, its weights by the graph's own names, and running."""

from __future__ import annotations

import inspect

import pytest
import torch

import forge
from forge.api import DEFAULT_MODEL
from forge.errors import GraphError, UsageError
from forge.graph.ir import Graph
from forge.graph.leaves import Part
from forge.graph.types import Sym, tensor
from forge.kernels import load
from forge.language import interpreted
from forge.quant import dense, pack, random_blocks

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

OPS = load()
WRONG = [
    ("target", 942), ("weights", [1]), ("weights", {"v": torch.zeros(1)}), ("weights", {"w": [1.0]}),
    ("weights", {"w": None}),
    ("weights", {"w": torch.zeros(32, 64)}), ("weights", {"w": torch.zeros(32, 63).bfloat16()}),
    ("weights", {"w": torch.zeros(32, 2, 32).bfloat16()}), ("weights", {"w": torch.zeros(64).bfloat16()}),
    ("activations", "nonsense"), ("activations", "a16"), ("plain", "yes"),
]  # fmt: skip


def feed_forward(parts="w"):
    graph, t = Graph("feed forward"), Sym("T", max=8)
    x, w = graph.input("x", tensor("bf16", t, 64)), graph.weight(parts, tensor("bf16", 32, 64))
    y = OPS["linear"](x, w, out="bf16")
    graph.output("y", OPS["swiglu"](y, y))
    return graph


def test_a_graph_of_ops_compiles_and_runs():
    half = torch.full((32, 64), 0.5, dtype=torch.bfloat16)
    compiled = forge.compile_graph(feed_forward(), target="cpu", weights={"w": half})
    out = compiled.run({"x": torch.ones(3, 64, dtype=torch.bfloat16)})["y"]
    assert torch.equal(out, torch.full((3, 32), 1024.0, dtype=torch.bfloat16))
    assert compiled.load() is compiled.load()
    for wrong in (
        {},
        {"x": torch.ones(3, 64)},
        {"x": torch.ones(9, 64).bfloat16()},
        {"x": torch.ones(3, 63).bfloat16()},
        {"x": torch.ones(3, 64).bfloat16(), "z": torch.ones(3)},
        {"x": [[1.0] * 64]},
        {"x": None},
    ):
        with pytest.raises(GraphError, match="x"):
            compiled.run(wrong)


def test_without_weights_the_plan_can_be_looked_at():
    compiled = forge.compile_graph(feed_forward(), target="gfx1100")
    assert "linear" in compiled.plan.describe({"T": 1})
    with pytest.raises(GraphError, match="weights are not given: w"):
        forge.compile_graph(feed_forward(), target="cpu").load()


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_an_argument_out_of_its_range_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        forge.compile_graph(feed_forward(), **{"target": "cpu", name: value})


def test_every_argument_is_tried():
    names = set(inspect.signature(forge.compile_graph).parameters) - {"graph"}
    assert names == {name for name, _ in WRONG}


def test_what_only_a_model_takes_is_not_taken():
    with pytest.raises(TypeError, match="context"):
        forge.compile_graph(feed_forward(), context=-5)
    with pytest.raises(UsageError, match=r"(?s)this is a model file.*forge\.compile\("):
        forge.compile_graph(DEFAULT_MODEL)
    with pytest.raises(UsageError, match="graph=None is a NoneType"):
        forge.compile_graph(None)


def test_weights_have_the_names_of_the_graph_whatever_the_passes_merge():
    """Two linears of one input become one with the weights stacked; a weight of parts is cut and stacked."""
    graph = Graph("two")
    x = graph.input("x", tensor("bf16", 2, 64))
    parts = [Part("qkv", stop=8), Part("extra")]
    graph.output("p", OPS["linear"](x, graph.weight("a", tensor("bf16", 16, 64)), out="f32"))
    graph.output("q", OPS["linear"](x, graph.weight(parts, tensor("bf16", 12, 64)), out="f32"))
    given = {n: torch.randn(rows, 64).bfloat16() for n, rows in {"a": 16, "qkv": 24, "extra": 4}.items()}
    compiled = forge.compile_graph(graph, target="cpu", weights=given)
    assert len(list(compiled.graph.leaves("weight"))) == 1
    x = torch.randn(2, 64).bfloat16()
    out = compiled.run({"x": x})
    torch.testing.assert_close(out["p"], x.float() @ given["a"].float().T, rtol=1e-2, atol=1e-2)
    q = torch.cat((given["qkv"][:8], given["extra"])).float()
    torch.testing.assert_close(out["q"], x.float() @ q.T, rtol=1e-2, atol=1e-2)
    with pytest.raises(UsageError, match=r"extra is bf16\[11,64\]"):
        forge.compile_graph(graph, target="cpu", weights=given | {"extra": given["extra"][:3]})


def test_a_packed_weight_is_one_of_its_block_type():
    type = tensor("q4_K", 8, 256)
    packed = pack(type, random_blocks(type, torch.Generator().manual_seed(3)))
    graph = Graph("quantized")
    x, w = graph.input("x", tensor("bf16", 2, 256)), graph.weight("w", type)
    graph.output("y", OPS["linear"](x, w, out="f32"))
    x = torch.randn(2, 256).bfloat16()
    y = forge.compile_graph(graph, target="cpu", weights={"w": packed}).run({"x": x})["y"]
    expected = x.float() @ dense(packed).bfloat16().float().T
    torch.testing.assert_close(y, expected, rtol=1e-2, atol=1e-2)
    with pytest.raises(UsageError, match=r"w is f32\[8,256\]; the graph wants q4_K"):
        forge.compile_graph(graph, target="cpu", weights={"w": dense(packed)})
