"""Which kernel of `linear` runs is data: by tokens for every architecture, by N and tokens where that was tuned."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from forge.graph.ir import Graph
from forge.graph.op import Case
from forge.graph.types import Sym, tensor
from forge.kernels.linear import linear
from forge.language import interpreted
from forge.lower import schedule
from forge.lower.plan import Plan
from forge.lower.select import call_of
from forge.lower.values import empty
from forge.target import TARGETS
from forge.tune.store import TuningStore
from forge.verify import compare, operands, oracle

GEMV = {"ROWS": 4, "BLOCK_K": 1024, "STAGES": 1, "num_warps": 2}
TILE = {"BLOCK_N": 16, "BLOCK_K": 64, "BAND": 1, "STAGES": 1, "num_warps": 4}


def tuned(tmp_path, narrow, wide):
    """For a weight of `narrow` rows GEMV up to 16 tokens, for one of `wide` the tile from 5 on."""
    evidence = {"kind": "modelled"}
    fits = {"x": "a16", "w": "q4_K"}
    entries = [
        {"fits": fits | {"N": narrow, "T": "<=16"}, "kernel": "linear_gemv", "config": GEMV, "evidence": evidence},
        {"fits": fits | {"N": wide, "T": "5..64"}, "kernel": "linear_tile_few", "config": TILE, "evidence": evidence},
    ]
    (tmp_path / "gfx1100").mkdir()
    (tmp_path / "gfx1100" / "linear.json").write_text(json.dumps(entries))
    return TuningStore(tmp_path, *TuningStore().roots)


@pytest.mark.cpu
def test_a_plan_has_the_kernel_that_was_tuned_for_n_and_tokens(tmp_path):
    tokens = Sym("T", 64)
    graph = Graph("tuned")
    for n in (4096, 28672):
        weight = graph.weight(f"w{n}", tensor("q4_K", n, 256))
        graph.output(
            f"y{n}", graph.call(linear, graph.input(f"x{n}", tensor("a16", tokens, 256)), weight, None, out="f16")
        )
    plan = Plan(graph, TARGETS["gfx1100"], tuned(tmp_path, 4096, 28672))

    def kernels(t):
        return [line.split()[2].split("[")[0] for line in plan.describe({"T": t}).splitlines() if " linear " in line]

    for t, narrow, wide in (
        (1, "linear_gemv", "linear_gemv"),
        (4, "linear_gemv", "linear_gemv"),
        (5, "linear_gemv", "linear_tile_few"),
        (16, "linear_gemv", "linear_tile_few"),
        (17, "linear_tile_few", "linear_tile_few"),
        (64, "linear_tile_few", "linear_tile_few"),
    ):
        assert kernels(t) == [narrow, wide], t
    shown = plan.describe({"T": 9})
    assert "linear_gemv[ROWS=4 BLOCK_K=1024 STAGES=1 num_warps=2] (exact)" in shown
    assert "linear_tile_few[BLOCK_N=16 BLOCK_K=64 BAND=1 STAGES=1 num_warps=4] (exact)" in shown


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize(("n", "t", "kernel"), [(64, 12, "linear_gemv"), (96, 12, "linear_tile_few")])
def test_what_was_chosen_runs(tmp_path, n, t, kernel):
    target = replace(TARGETS["gfx1100"], backend="interpreter")
    case = Case("tuned", (tensor("a16", t, 256), tensor("q4_K", n, 256), None), {"out": "f32"})
    values = operands(linear, case)
    made = schedule.of_call(linear, case.types, case.attrs, target, tuned(tmp_path, 64, 96))
    assert [s.selection.kernel.name for s in made.steps] == [kernel]
    given = dict(zip(linear.operands, values, strict=True))
    built = schedule.build(made, lambda p: given[p.leaf.name] if p.leaf else empty(p.type, "cpu"))
    built.run()
    compare(built.outputs["0"], oracle(linear, values, case.attrs)[0], kernel)


def chosen(x, w, t, *, bias=False, out="f16", arch="gfx1100"):
    types = (tensor(x, t, 512), tensor(w, 64, 512), tensor("f32", 64) if bias else None)
    kernel, _ = TuningStore().choose(call_of(linear, types, {"out": out}, TARGETS[arch]))
    return kernel.name


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (dict(x="a16", w="q4_K"), {8: "gemv", 9: "tile_few", 64: "tile_few", 65: "tile", 511: "tile", 512: "library"}),
        (dict(x="a8", w="q6_K", bias=True), {8: "gemv", 512: "tile"}),
        (dict(x="f16", w="q4_K"), {4: "gemv_float", 5: "tall", 64: "tall", 65: "tile", 512: "library"}),
        (dict(x="f16", w="f16", out="f32"), {4: "gemv_dense", 5: "tall", 512: "tile"}),
        (dict(x="f32", w="f32"), {4: "gemv_dense", 5: "tile_f32", 512: "tile_f32"}),
        (dict(x="a16", w="q4_K", out="f32", arch="gfx90a"), {8: "gemv", 9: "tile_f32", 65: "tile_f32"}),
        (dict(x="bf16", w="q4_K", arch="cpu"), {1: "torch", 512: "torch"}),
        (dict(x="bf16", w="q4_K", out="f32", arch="cpu"), {1: "head", 512: "head"}),
    ],
)
def test_the_rules_are_by_tokens(of, expected):
    assert {t: chosen(t=t, **of).removeprefix("linear_") for t in expected} == expected
