"""The key of a call: what tuning tells apart, and what it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forge.errors import GraphError
from forge.graph.axes import Axes
from forge.graph.types import tensor
from forge.kernels import load
from forge.lower.select import call_of
from forge.target import TARGETS
from forge.tune.key import bucket, key_of

pytestmark = pytest.mark.cpu
OPS = load()
TARGET = TARGETS["sm_90"]


def linear(t=1, n=4096, k=4096, x="a16", w="q4_K", bias=False, out="f16", target=TARGET):
    types = (tensor(x, t, k), tensor(w, n, k), tensor("f32", n) if bias else None)
    return key_of(call_of(OPS["linear"], types, {"out": out}, target))


def test_it_reads_as_what_it_is():
    assert str(linear(6, 28672)) == "linear x=a16 w=q4_K T<=8 K=4096 N=28672 out=f16 on sm_90 with 132 CUs"


def test_a_bias_does_not_enter():
    assert linear(bias=True) == linear()


def test_each_field_alone_makes_another_key():
    smaller = replace(TARGET, compute_units=114)
    others = [
        linear(2), linear(n=6144), linear(k=14336), linear(x="a8"), linear(w="q6_K"), linear(out="f32"),
        linear(target=TARGETS["sm_80"]), linear(target=smaller),
    ]  # fmt: skip
    assert len({linear(), *others}) == 1 + len(others)


def test_tokens_and_sequences_enter_by_their_bucket_and_widths_as_they_are():
    assert [bucket(n) for n in (0, 1, 2, 3, 4, 5, 8, 9, 512, 513)] == [1, 1, 2, 4, 4, 8, 8, 16, 512, 1024]
    assert linear(5) == linear(8) != linear(9)
    assert linear(n=4096) != linear(n=4095)


def paged(t, s, pages=64, scale=0.1, window=0, softcap=0.0):
    types = (tensor("f16", t, 8, 64), tensor("f16", 2, pages, 2, 16, 64), tensor("i32", s, 32), *[tensor("i32", s)] * 3)
    attrs = {"scale": scale, "window": window, "softcap": softcap}
    return key_of(call_of(OPS["paged_attention"], types, attrs, TARGET))


def test_the_pool_s_pages_indices_and_fractions_tell_nothing():
    assert paged(5, 3) == paged(8, 4, pages=999, scale=0.2)
    assert paged(5, 3) != paged(5, 3, window=16)
    assert paged(5, 3) != paged(5, 3, softcap=30.0), "whether there is a cap does"
    assert paged(5, 3, softcap=30.0) == paged(5, 3, softcap=50.0)


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if not op.view])
def test_every_op_s_axes_agree_with_its_cases(name):
    for case in OPS[name].cases:
        assert OPS[name].axes.letters
        key_of(call_of(OPS[name], case.types, OPS[name].bind(case.types, case.attrs)[1], TARGET))


def test_axes_that_contradict_the_types_are_an_error():
    axes = Axes("mul", ("a", "b"), {"a": ("TD", "THD"), "b": "D2."})
    assert axes.sizes((tensor("f16", 3, 4), tensor("f16", 4, 2, 9))) == {"T": 3, "D": 4}
    assert axes.sizes((tensor("f16", 3, 5, 4), None)) == {"T": 3, "H": 5, "D": 4}
    for types in (
        (tensor("f16", 3, 4), tensor("f16", 5, 2, 9)),
        (tensor("f16", 3, 4), tensor("f16", 4, 3, 9)),
        (tensor("f16", 3), None),
    ):
        with pytest.raises(GraphError, match="op mul"):
            axes.sizes(types)
    for declared in ({"a": "TD"}, {"a": "TD", "b": "td"}, {"a": "T", "b": "T", "c": "T"}):
        with pytest.raises(GraphError, match="op mul"):
            Axes("mul", ("a", "b"), declared)


def test_without_axes_each_operand_s_are_numbered():
    axes = Axes("mul", ("a", "b"), None)
    assert axes.sizes((tensor("f16", 3, 4), tensor("f16", 4))) == {"a0": 3, "a1": 4, "b0": 4}
    assert axes.knows("a1") and not axes.knows("c0") and not axes.knows("T")
