"""A node of decode, written as somebody would who adds one: one declaration, one kernel, for few tokens alone.

Norm, quantization, the projections with their bias, the rotation and the write of keys and values into pages are one
op by `equals`. Its kernel serves at most 8 tokens; at 300 the plan composes it from the parts. Both are run, in
Triton's interpreter, and held against the graph's own evaluation.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernels.harness import INTERPRETER

from forge.graph.evaluate import evaluate
from forge.graph.ir import Graph
from forge.graph.op import Space, op
from forge.graph.passes import Options, optimize
from forge.graph.types import DTYPES, StateType, Sym, tensor
from forge.kernels import load
from forge.kernels.device.tile import load_tile, operand
from forge.kernels.kv_append import kv_append
from forge.kernels.linear import linear
from forge.kernels.quantize_q8 import quantize_q8
from forge.kernels.rms_norm import rms_norm
from forge.kernels.rope import rope
from forge.kernels.views import columns, split_heads
from forge.language import interpreted, jit, next_power_of_2, tl
from forge.lower.device import CPU
from forge.lower.executable import Executable
from forge.lower.pipeline import options
from forge.lower.plan import Plan
from forge.models.parts.rotary import Rope
from forge.quant import dense, pack, random_blocks
from forge.target import TARGETS
from forge.tune.store import TuningStore

D, HEADS, KV_HEADS, E, PAGE = 64, 2, 1, 32, 16


def _equals(x, norm, w, bias, rotation, kv, slots, *, eps, residual, heads, kv_heads, q_end, k_end, v_end):
    y = linear(quantize_q8(rms_norm(x, norm, eps=eps, out="f16"), residual=residual), w, bias, out="f16")
    q = columns(y, start=0, stop=q_end)
    k, v = columns(y, start=q_end, stop=k_end), columns(y, start=k_end, stop=v_end)
    q, k, v = split_heads(q, heads=heads), split_heads(k, heads=kv_heads), split_heads(v, heads=kv_heads)
    kv = kv_append(kv, rope(k, rotation, pairs="norm"), v, slots)
    return kv, rope(q, rotation, pairs="norm")


@op(equals=_equals, writes="kv")
def norm_qkv(x, norm, w, bias, rotation, kv, slots, *, eps, residual, heads, kv_heads, q_end, k_end, v_end):
    """(kv with k and v of this step, q), where q k v = quantize(rms_norm(x) norm) w^T + bias, q and k rotated."""


@jit
def _norm_qkv(
    q_ptr, x_ptr, norm_ptr, w, bias_ptr, rotation_ptr, k_pages_ptr, v_pages_ptr, slots_ptr, eps,
    W: tl.constexpr, D: tl.constexpr, N: tl.constexpr, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, E: tl.constexpr,
    B: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """A program a token, which makes all rows of the weight at once."""
    token = tl.program_id(0)
    d = tl.arange(0, D)
    x = tl.load(x_ptr + token * D + d)
    x = (x * tl.rsqrt(tl.sum(x * x, 0) / D + eps) * tl.load(norm_ptr + d)).to(tl.float16).to(tl.float32)
    groups = tl.reshape(x, [D // 32, 32])
    scale = tl.max(tl.abs(groups), 1)[:, None] / 127.0
    codes = (groups / tl.where(scale == 0.0, 1.0, scale) * 256.0 + 12582912.0) - 12582912.0
    x = tl.reshape(codes * (1.0 / 256.0) * scale, [D])
    row = tl.arange(0, BLOCK_N)
    y = tl.sum(load_tile(w, W, 0, N, 0, D, BLOCK_N, D) * x[None, :], 1) + tl.load(bias_ptr + row, row < N, 0.0)
    first, second = tl.split(tl.reshape(y.to(tl.float16).to(tl.float32), [BLOCK_N // 2, 2]))
    pair = tl.arange(0, BLOCK_N // 2)
    turned = pair < (HEADS + KV_HEADS) * E // 2
    at = rotation_ptr + token * E + pair % (E // 2) * 2
    cos, sin = tl.load(at, turned, 1.0), tl.load(at + 1, turned, 0.0)
    y = tl.reshape(tl.join(first * cos - second * sin, first * sin + second * cos), [BLOCK_N])
    tl.store(q_ptr + token * HEADS * E + row, y.to(tl.float16), row < HEADS * E)
    slot = tl.load(slots_ptr + token)
    if slot < 0:
        return
    own = (row - HEADS * E) % (KV_HEADS * E)
    to = ((slot // B * KV_HEADS + own // E) * B + slot % B) * E + own % E
    is_k = (row >= HEADS * E) & (row < (HEADS + KV_HEADS) * E)
    is_v = (row >= (HEADS + KV_HEADS) * E) & (row < N)
    tl.store(k_pages_ptr + to, y.to(tl.float16), is_k)
    tl.store(v_pages_ptr + to, y.to(tl.float16), is_v)


@norm_qkv.kernel(when=lambda call: call.types[0].concrete()[0] <= 8, space=Space(num_warps=(4,)))
def norm_qkv_few(site, q, x, norm, w, bias, rotation, kv, slots, *, eps, heads, kv_heads, **ends):
    """At most 8 tokens."""
    planes, form = operand(w)
    n = w.shape[0]
    sizes = dict(W=form, D=x.shape[1], N=n, HEADS=heads, KV_HEADS=kv_heads, E=kv.shape[4], B=kv.shape[3])
    args = (q, x, norm, planes, bias, rotation, kv[0], kv[1], slots, eps)
    return site.launch(_norm_qkv, (x.shape[0],), *args, BLOCK_N=next_power_of_2(n), **sizes)


def model_graph() -> Graph:
    """The projections of one layer, written with the ops that models are written with."""
    g, t = Graph("projections"), Sym("T", 300)
    x = g.input("x", tensor("f32", t, D))
    turns = Rope("norm", E, 10000.0).rotation(g.input("positions", tensor("i32", t)))
    y = rms_norm(x, g.weight("norm", tensor("f32", D)), eps=1e-6, out="f16")
    parts = []
    for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
        weight = g.weight(f"{name}.weight", tensor("q8_0", heads * E, D))
        bias = g.weight(f"{name}.bias", tensor("f32", heads * E))
        parts.append(split_heads(linear(y, weight, bias, out="f16"), heads=heads))
    q, k, v = parts
    kv = g.state("kv", StateType((2, 20, KV_HEADS, PAGE, E), DTYPES["f16"]))
    kv = kv_append(kv, rope(k, turns, pairs="norm"), v, g.input("slots", tensor("i32", t)))
    g.update("kv", kv)
    g.output("q", rope(q, turns, pairs="norm"))
    return g


def fused_graph() -> Graph:
    known = options("a16")
    return optimize(model_graph(), Options({**load(), "norm_qkv": norm_qkv}, known.columns, known.quantize))


@pytest.mark.null
def test_the_model_s_ops_become_the_node():
    calls = [n.op.name for n in fused_graph().calls()]
    assert calls == ["rotation", "norm_qkv"]


@pytest.mark.cpu
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "sm_90"])
def test_a_plan_runs_the_node_or_what_it_equals(arch):
    plan = Plan(fused_graph(), TARGETS[arch], TuningStore())
    few, many = ([s.node.op.name for s in plan.schedule({"T": t}).steps if s.selection] for t in (8, 300))
    assert few == ["rotation", "norm_qkv"]
    assert sorted(many) == ["linear_q8", "rms_norm", "rope_append", "rotation"]


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("tokens", [1, 7, 300])
def test_the_node_and_what_it_equals_give_what_the_model_means(tokens):
    generator = torch.Generator().manual_seed(tokens)
    graph = fused_graph()
    plan = Plan(graph, INTERPRETER, TuningStore())
    weights = {}
    for leaf in plan.weights:
        type = leaf.types[0]
        weights[leaf] = (
            pack(type, random_blocks(type, generator))
            if type.dtype.quantized
            else torch.randn(type.concrete(), generator=generator)
        )
    slots = np.arange(tokens, dtype=np.int32)[::-1].copy()
    if tokens > 1:
        slots[tokens // 2] = -1  # a token that is not stored
    inputs = {
        "x": torch.randn(tokens, D, generator=generator).numpy(),
        "positions": np.arange(tokens, dtype=np.int32) * 5,
        "slots": slots,
    }
    executable = Executable(plan, weights, CPU(INTERPRETER))
    got = executable.run(inputs)["q"].float()

    exact = {leaf.name: dense(w) for leaf, w in weights.items()}

    def fixed(leaf):
        if leaf.kind == "constant":
            return torch.tensor(leaf.leaf.values, dtype=torch.float64)
        return exact[leaf.name]

    states = {"kv": torch.zeros(2, 20, KV_HEADS, PAGE, E)}
    outputs, updates = evaluate(graph, {k: torch.from_numpy(v) for k, v in inputs.items()}, fixed, states)
    for ours, theirs in ((got, outputs["q"]), (executable.states["kv"].float(), updates["kv"])):
        written = theirs[theirs != 0].square().mean().sqrt()
        assert ((ours - theirs).abs().max() / written).item() < 5e-3  # two roundings to fp16
        assert theirs.abs().max() > 0.1
