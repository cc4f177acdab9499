"""One layout for each weight, that all its kernels take at all sizes planned ahead, composed or not."""

from __future__ import annotations

import pytest
import torch

from forge.errors import UnsupportedError
from forge.graph.ir import Graph
from forge.graph.op import Cost, op
from forge.graph.types import Sym, TensorType, tensor
from forge.language import interpreted
from forge.lower.plan import Plan
from forge.target import TARGETS
from forge.tune.store import TuningStore

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
T, R = Sym("T", 300), Sym("R", 16)
W = tensor("q8_0", 8, 32)


def _types(x, rows, w):
    return TensorType((rows.shape[0], w.shape[0]), x.dtype)


def projection(name, **layouts):
    """An op y[R,N] = x[rows] w^T with a kernel for each of `layouts`: "few" serves many tokens with few rows."""

    def fn(x, rows, w):
        """y[R,N] = x[rows] @ w^T"""

    fn.__name__ = name
    made = op(types=_types, reference=lambda x, rows, w: x[rows] @ w.T, cost=lambda x, rows, w: Cost())(fn)
    for kind, taken in layouts.items():

        def build(site, y, x, rows, w):
            return lambda: torch.mm(x[rows], w.T, out=y)

        build.__name__ = f"{name}_{kind}"
        made.kernel(on="cpu", when=_served(kind), layouts=lambda call, taken=taken: {"w": taken})(build)
    return made


def _served(kind):
    def when(call):
        few = call.types[0].shape[0] > 100 and call.types[1].shape[0] <= 2
        return kind == "any" or few == (kind == "few")

    return when


def layout(*ops) -> str:
    graph = Graph("test")
    operands = graph.input("x", tensor("f32", T, 32)), graph.input("rows", tensor("i32", R)), graph.weight("w", W)
    for made in ops:
        graph.output(made.name, made(*operands))
    (storage,) = Plan(graph, TARGETS["cpu"], TuningStore()).weights.values()
    return storage.layout


def test_the_layout_that_all_readers_take_is_chosen():
    both = projection("both", any=("dense:f32", "dense:f16"))
    assert layout(both) == "dense:f32", "the best, with nobody to agree with"
    assert layout(both, projection("half", any=("dense:f16",))) == "dense:f16"


def test_no_common_layout_is_refused_by_name():
    with pytest.raises(UnsupportedError, match="weight w is wanted in layouts that no one storage serves") as caught:
        layout(projection("half", any=("dense:f16",)), projection("whole", any=("dense:f32",)))
    assert "dense:f16" in str(caught.value) and "dense:f32" in str(caught.value)


def test_many_tokens_with_few_rows_are_looked_at_too():
    assert layout(projection("head", few=("dense:f16",), rest=("dense:f32", "dense:f16"))) == "dense:f16"
    with pytest.raises(UnsupportedError, match="no one storage serves"):
        layout(projection("head", few=("dense:f16",), rest=("dense:f32",)))


def test_a_kernel_without_a_word_takes_a_weight_as_it_is():
    graph = Graph("test")
    plain = op(types=_types, reference=lambda x, rows, w: x, cost=lambda x, rows, w: Cost())(_silent)
    plain.kernel(on="cpu")(lambda site, y, x, rows, w: list)
    x, rows = graph.input("x", tensor("f32", T, 32)), graph.input("rows", tensor("i32", R))
    graph.output("y", plain(x, rows, graph.weight("w", W)))
    graph.output("z", plain(x, rows, graph.weight("v", tensor("f16", 8, 32))))
    stored = Plan(graph, TARGETS["cpu"], TuningStore()).weights
    assert [s.layout for s in stored.values()] == ["planes", "dense:f16"]


def _silent(x, rows, w):
    """y[R,N] = something of x, rows and w"""
