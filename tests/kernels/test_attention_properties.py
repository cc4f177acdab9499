"""What must hold of attention whatever computes it: of each kernel on the CPU, in the interpreter and on a GPU."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from kernels.harness import INTERPRETER, OPS

from forge.language import interpreted
from forge.lower import eager
from forge.lower.select import call_of
from forge.lower.values import type_of
from forge.target import TARGETS
from forge.verify import build, compare

B, H, K, E = 16, 4, 2, 32
SCALE = E**-0.5

TIERS = [
    pytest.param(
        "cpu", marks=[pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
    ),
    pytest.param(
        "interpreter",
        marks=[pytest.mark.interpret, pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")],
    ),
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available() or interpreted(), reason="needs a GPU"),
        ],
    ),
]


def call(tier: str, name: str, *operands: torch.Tensor, target=None, **attrs) -> torch.Tensor:
    """The op's result on a tier, on the CPU. A state operand is updated where it is, except on a GPU."""
    op = OPS[name]
    if tier == "cuda":
        operands = tuple(x.cuda() for x in operands)
    targets = {"cpu": TARGETS["cpu"], "interpreter": INTERPRETER}
    return eager.run(op, *op.bind(operands, attrs), target=target or targets.get(tier)).cpu()


@pytest.fixture(params=TIERS)
def run(request):
    return partial(call, request.param)


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).half()


def paged(k: torch.Tensor, v: torch.Tensor, pages: list[int], total: int) -> torch.Tensor:
    """k and v [C,K,E] in `pages` of kv[2,total,K,B,E]; all else is NaN."""
    kv = torch.full((2, total, K, B, E), float("nan"), dtype=k.dtype)
    for j in range(len(k)):
        kv[0, pages[j // B], :, j % B], kv[1, pages[j // B], :, j % B] = k[j], v[j]
    return kv


@pytest.mark.parametrize("attrs", [{}, {"window": 9}, {"softcap": 3.0}, {"window": 16, "softcap": 3.0}], ids=str)
@pytest.mark.parametrize(("n", "c"), [(37, 37), (20, 50), (1, 33), (1, 1)])
def test_paged_and_flash_and_oracle_agree(run, n, c, attrs):
    q, k, v = normal(n, H, E, seed=1), normal(c, K, E, seed=2), normal(c, K, E, seed=3)
    attrs = {"window": 0, "softcap": 0.0, "scale": SCALE} | attrs
    flash = run("flash_attention", q[None], k[None], v[None], **attrs)[0]
    table = ints(5, 0, 3, 2)[None]
    pages = run("paged_attention", q, paged(k, v, [5, 0, 3, 2], 6), table, ints(0), ints(n), ints(c), **attrs)
    oracle = OPS["flash_attention"].reference(q[None], k[None], v[None], causal=True, **attrs)[0]
    compare(flash, oracle, "flash")
    compare(pages, oracle, "paged")


@pytest.mark.parametrize("chunks", [(41,), (16, 16, 9), (17, 1, 1, 22), (40, 1)], ids=str)
def test_prefill_in_chunks_is_prefill_in_one_go(run, chunks):
    c = sum(chunks)
    q, k, v = normal(c, H, E, seed=4), normal(c, K, E, seed=5), normal(c, K, E, seed=6)
    kv, pages = torch.full((2, 5, K, B, E), float("nan")).half(), [4, 1, 2]
    outs, start = [], 0
    for n in chunks:
        at = range(start, start + n)
        slots = ints(*(pages[j // B] * B + j % B for j in at))
        kv = run("kv_append", kv, k[at], v[at], slots)
        table = ints(*pages)[None]
        outs.append(run("paged_attention", q[at], kv, table, ints(0), ints(n), ints(start + n), scale=SCALE))
        start += n
    oracle = OPS["flash_attention"].reference(
        q[None], k[None], v[None], causal=True, scale=SCALE, window=0, softcap=0.0
    )[0]
    compare(torch.cat(outs), oracle, "chunks")


def test_where_pages_lie_changes_nothing(run):
    q, k, v = normal(30, H, E, seed=7), normal(45, K, E, seed=8), normal(45, K, E, seed=9)
    first, *others = (
        run("paged_attention", q, paged(k, v, p, 7), ints(*p)[None], ints(0), ints(30), ints(45), scale=SCALE)
        for p in ([0, 1, 2], [6, 0, 5], [2, 1, 0])
    )
    assert first.isfinite().all()
    for other in others:
        assert torch.equal(first, other)


def test_a_sequence_does_not_see_the_others(run):
    lengths = ((1, 20), (12, 12), (3, 40), (1, 1))
    parts, kvs, tables = [], [], []
    for i, (n, c) in enumerate(lengths):
        q, k, v = normal(n, H, E, seed=10 + i), normal(c, K, E, seed=20 + i), normal(c, K, E, seed=30 + i)
        parts.append(q)
        tables.append([i + 4 * j for j in range(3)])  # pages of the sequences take turns
        kvs.append(paged(k, v, tables[-1], 12))
    kv = torch.stack(kvs).nan_to_num(0).sum(0).half()
    starts = ints(0, 1, 13, 16)
    lens, contexts = (ints(*x) for x in zip(*lengths, strict=True))
    table = torch.tensor(tables, dtype=torch.int32)
    together = run("paged_attention", torch.cat(parts), kv, table, starts, lens, contexts, scale=SCALE)
    for i, (n, c) in enumerate(lengths):
        alone = run("paged_attention", parts[i], kvs[i], ints(*tables[i])[None], ints(0), ints(n), ints(c), scale=SCALE)
        compare(together[starts[i] : starts[i] + n], alone.float(), f"sequence {i}")


@pytest.mark.parametrize("window", [0, 5, 16])
@pytest.mark.parametrize("query", [0, 16, 33])
@pytest.mark.parametrize("op", ["flash_attention", "paged_attention"])
def test_a_query_sees_its_keys_and_no_other(run, op, query, window):
    """The first and last key seen change the result; the one before and the one after do not, to the last bit."""
    c = 36
    q, k, v = normal(c, H, E, seed=40), normal(c, K, E, seed=41), normal(c, K, E, seed=42)

    def row(changed: int | None) -> torch.Tensor:
        keys, values = k.clone(), v.clone()
        if changed is not None:
            keys[changed] *= -1
            values[changed] += 50
        if op == "flash_attention":
            return run(op, q[None], keys[None], values[None], scale=SCALE, window=window)[0, query]
        kv = paged(keys, values, [2, 0, 1], 3)
        return run(op, q, kv, ints(2, 0, 1)[None], ints(0), ints(c), ints(c), scale=SCALE, window=window)[query]

    plain = row(None)
    first = max(0, query - window + 1) if window else 0
    assert not torch.equal(row(first), plain), "the first key it sees"
    assert not torch.equal(row(query), plain), "its own key"
    assert torch.equal(row(query + 1), plain), "the key after its own"
    if first:
        assert torch.equal(row(first - 1), plain), "the key before its window"


def test_rows_of_nobody_are_zero_whatever_they_hold(run):
    q, k, v = normal(9, H, E, seed=50), normal(20, K, E, seed=51), normal(20, K, E, seed=52)
    q[4:] = float("nan")
    kv, table = paged(k, v, [1, 0], 2), ints(1, 0).expand(3, 2)
    y = run("paged_attention", q, kv, table, ints(0, 9, 3), ints(3, 0, 1), ints(20, 1, 7), scale=SCALE)
    assert y[:4].isfinite().all() and y[:4].abs().amin((1, 2)).gt(0).all()
    assert torch.equal(y[4:], torch.zeros_like(y[4:]))


def test_scores_of_any_size_give_no_nan(run):
    """Scores of 1e4 pick the one largest key; equal scores of 1e4 give the mean."""
    c = 40
    k, v = normal(c, K, E, seed=60), normal(c, K, E, seed=61)
    k[:, :, 0], k[:, :, 1] = 0.0, 200.0
    k[17, :, 0] = 200.0
    q = torch.zeros(2, H, E).half()
    q[0, :, 1], q[1, :, 0] = 283.0, 283.0  # 283 * 200 * SCALE is 1e4
    y = run("flash_attention", q[None], k[None], v[None], causal=False, scale=SCALE)[0]
    compare(y[0], v.float().mean(0).repeat_interleave(H // K, 0), "equal scores")
    assert torch.equal(y[1], v[17].repeat_interleave(H // K, 0))


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("window", [0, 300])
def test_the_number_of_splits_changes_nothing(window):
    """The same decode step on a small and on a large device, which splits the keys further."""
    q, k, v = normal(3, H, E, seed=70), normal(600, K, E, seed=71), normal(600, K, E, seed=72)
    kv, table = paged(k, v, list(range(38)), 38), torch.arange(38).int().expand(3, 38)
    operands = (q, kv, table, ints(0, 1, 2), ints(1, 1, 1), ints(600, 257, 3))
    oracle = OPS["paged_attention"].reference(*operands, scale=SCALE, window=window, softcap=0.0)
    for units in (1, 100):
        target = replace(INTERPRETER, compute_units=units)
        y = call("interpreter", "paged_attention", *operands, target=target, scale=SCALE, window=window)
        compare(y, oracle, f"{units} compute units")


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
def test_more_splits_than_are_combined_at_once():
    """35 parts of a sequence, where a pass over the parts takes 32 at this head width; the largest score is last."""
    q, k, v = normal(1, 1, 256, seed=80), normal(2200, 1, 256, seed=81), normal(2200, 1, 256, seed=82)
    k[2150:] *= 3
    kv = torch.zeros(2, 138, 1, B, 256).half()
    kv.view(2, -1, 256)[:, :2200] = torch.stack((k, v))[:, :, 0]
    operands = [q, kv, torch.arange(138).int()[None], ints(0), ints(1), ints(2200)]
    attrs = {"scale": 0.0625, "window": 0, "softcap": 0.0}
    op = OPS["paged_attention"]
    invocation = call_of(op, tuple(type_of(x) for x in operands), attrs, INTERPRETER)
    config = {"BLOCK_M": 16, "BLOCK_N": 64, "MIN_KEYS": 64, "num_warps": 4, "num_stages": 1}
    (y,), steps, _ = build(op.kernels["paged_split"], invocation, operands, "cpu", config)
    for step in steps:
        step()
    compare(y, op.reference(*operands, **attrs), "35 parts")


def both(run, q, k, v, **attrs) -> list[torch.Tensor]:
    """[T,H,E] of flash attention and of paged attention, of one sequence."""
    table = torch.arange(-(-len(k) // B)).int()[None]
    kv = paged(k, v, table[0].tolist(), table.shape[1])
    lengths = ints(0), ints(len(q)), ints(len(k))
    flash = run("flash_attention", q[None], k[None], v[None], scale=SCALE, **attrs)[0]
    return [flash, run("paged_attention", q, kv, table, *lengths, scale=SCALE, **attrs)]


@pytest.mark.parametrize(("n", "context"), [(n, m) for n in (1, 3) for m in (1, 3, 15, 16, 17) if n <= m])
def test_scores_that_are_nan_give_nan_however_few(run, n, context):
    q, (k, v) = torch.full((n, H, E), float("nan")).half(), normal(2, context, K, E, seed=3)
    assert all(y.isnan().all() for y in both(run, q, k, v))
    oracle = OPS["flash_attention"].reference(
        q[None], k[None], v[None], causal=True, scale=SCALE, window=0, softcap=0.0
    )
    assert oracle.isnan().all()


@pytest.mark.parametrize(("n", "context"), [(1, 1), (3, 3), (1, 16), (3, 17), (20, 20)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_scores_that_are_infinite_give_nan(run, n, context, dtype):
    q, (k, v) = normal(n, H, E, seed=4).to(dtype), normal(2, context, K, E, seed=5).to(dtype)
    q[-1, :, 0], k[..., 0] = float("inf"), 1.0
    for y in both(run, q, k, v):
        assert y[-1].isnan().all() and y[:-1].isfinite().all()


@pytest.mark.parametrize("attrs", [{}, {"window": 5}, {"softcap": 3.0}], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_key_that_is_no_number_is_nothing_to_who_does_not_see_it(run, attrs, value):
    q, (k, v) = normal(20, H, E, seed=6).abs(), normal(2, 20, K, E, seed=7)
    k[9] = value
    seeing = range(9, 9 + attrs.get("window", 20))
    for y in both(run, q, k, v, **attrs):
        for query in range(20):
            wrong = query in seeing and not (attrs.get("softcap") and value == float("inf"))
            assert y[query].isnan().all() if wrong else y[query].isfinite().all(), query
