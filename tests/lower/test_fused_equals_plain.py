"""Fused and plain give the same at any number of tokens: odd widths, and rows of zeros, of NaN, of infinity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernels.harness import INTERPRETER

from forge.graph.ir import Graph
from forge.graph.passes import optimize
from forge.graph.types import Sym, tensor
from forge.kernels.add import add
from forge.kernels.geglu import geglu
from forge.kernels.linear import linear
from forge.kernels.rms_norm import rms_norm
from forge.kernels.swiglu import swiglu
from forge.language import interpreted
from forge.lower.device import CPU
from forge.lower.executable import Executable
from forge.lower.pipeline import options
from forge.lower.plan import Plan
from forge.lower.values import torch_dtype
from forge.quant import pack, random_blocks
from forge.tune.store import TuningStore

pytestmark = [pytest.mark.interpret, pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")]


def block(d, f, weight, gated, joined):
    """A feed-forward block as models write it, [T,d] -> [T,d] by way of f; `joined` adds a second operand before."""
    g, t = Graph("block"), Sym("T", 70)
    total = x = g.input("x", tensor("f32", t, d))
    if joined:
        total = add(x, g.input("b", tensor("f16", t, d)))
    y = rms_norm(total, g.weight("norm", tensor("f32", d)), eps=1e-6, out="f16")
    gate, up = (linear(y, g.weight(name, tensor(weight, f, d)), None, out="f16") for name in ("gate", "up"))
    down = linear(gated(gate, up), g.weight("down", tensor(weight, d, f)), None, out="f16")
    g.output("y", add(total, down))
    g.output("total", total)
    return g


CASES = [
    # tokens, width, inner width, weights, activation, whether two operands are added, activations
    (1, 32, 32, "q8_0", geglu, False, "a16"),
    (5, 96, 160, "q8_0", swiglu, True, "a16"),
    (9, 224, 96, "q4_0", geglu, True, "a8"),
    (33, 32, 96, "q8_0", swiglu, False, "a16"),
    (65, 96, 32, "q5_0", geglu, True, "a16"),
    (3, 40, 24, "f16", swiglu, True, "a16"),
    (17, 33, 7, "f32", geglu, True, "a16"),
]


@pytest.mark.parametrize(("tokens", "d", "f", "weight", "gated", "joined", "activations"), CASES)
def test_a_block(tokens, d, f, weight, gated, joined, activations):
    generator = torch.Generator().manual_seed(tokens)
    graph = optimize(block(d, f, weight, gated, joined), options(activations))
    given = {name: torch.randn(tokens, d, generator=generator) for name in ("x", "b")[: 1 + joined]}
    if joined:
        given["b"] = given["b"].half()
    for row, value in enumerate((0.0, np.nan, np.inf, -np.inf, 1e30, 1e-30)):
        if row + 1 < tokens:
            given["x"][row + 1, :: 1 if value == 0 or abs(value) < 1 else d // 2] = value
    if joined and tokens > 1:
        given["b"][1] = 0
    made, results = {}, []
    for plain in (False, True):
        plan = Plan(graph, INTERPRETER, TuningStore(), plain)
        for leaf in plan.weights:
            type = leaf.types[0]
            if leaf.name not in made and type.dtype.quantized:
                made[leaf.name] = pack(type, random_blocks(type, generator))
            elif leaf.name not in made:
                made[leaf.name] = torch.randn(type.concrete(), generator=generator).to(torch_dtype(type)) * 0.1
        weights = {leaf: made[leaf.name] for leaf in plan.weights}
        outputs = Executable(plan, weights, CPU(INTERPRETER)).run(given)
        results.append({name: value.clone() for name, value in outputs.items()})
        fused = {n.op.name for n in plan.schedule({"T": tokens}).graph.calls() if n.op.equals}
        assert not fused if plain else fused or not joined
    for name, want in results[1].items():
        got = results[0][name]
        assert torch.equal(torch.isfinite(got), torch.isfinite(want)), name
        assert torch.equal(got.isnan(), want.isnan()), name
        for row_got, row_want in zip(got, want, strict=True):
            if torch.isfinite(row_want).all() and row_want.any():
                scale = row_want.double().square().mean().sqrt()
                assert ((row_got.double() - row_want.double()).abs().max() / scale).item() < 1e-2, name
