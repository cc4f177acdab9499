"""Keys and values as 8-bit codes: what is written, and what attention reads, on the CPU, interpreted and on a GPU."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from kernels.test_attention_properties import TIERS, call, ints, normal

from forge.graph.types import DTYPES
from forge.quant import cells
from forge.quant.cells import page_type
from forge.torch_types import torch_type

B, H, K = 16, 4, 2
CODES = ("i8", "e4m3")


@pytest.fixture(params=TIERS)
def run(request):
    return partial(call, request.param)


def pages(kv: str, total: int, width: int) -> torch.Tensor:
    """Pages of zero bytes."""
    type = page_type(kv, total, K, B, width)
    return torch.zeros(type.concrete(), dtype=torch.uint8).view(torch_type(kv))


def written(run, kv: str, k: torch.Tensor, v: torch.Tensor, order: list[int]) -> torch.Tensor:
    """Pages that hold k and v [C,K,E], one after the other in the pages `order`."""
    slots = ints(*(order[j // B] * B + j % B for j in range(len(k))))
    return run("kv_append", pages(kv, max(order) + 1, k.shape[2]), k, v, slots)


def rows(x: torch.Tensor) -> torch.Tensor:
    """x[N,E] as a key of K heads of each of N tokens."""
    return x[:, None].expand(-1, K, -1).contiguous()


def test_each_number_of_e4m3_is_kept(run):
    codes = torch.arange(256, dtype=torch.uint8)
    numbers = codes[codes & 127 != 127].view(torch.float8_e4m3fn).float()  # but the two NaN
    x = torch.cat([numbers, -numbers[:2]]).view(16, 16)
    x[:, 0] = 448.0  # so that every scale is 1
    kv = written(run, "e4m3", rows(x), rows(-x), [0])
    dense = cells.dense(kv)
    assert torch.equal(dense[0, 0, 0], x) and torch.equal(dense[1, 0, 0], -x)


@pytest.mark.parametrize(("kv", "x", "y"), [
    ("i8", [127, 0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 0.49], [127, 0, 2, 2, 0, -2, 126, 0]),
    ("e4m3", [448, 17, 19, 432, 464 - 32, 2**-10, 3 * 2**-10, -17.01], [448, 16, 20, 448, 448, 0, 2**-8, -18]),
])  # fmt: skip
def test_ties_go_to_even(run, kv, x, y):
    x, y = (torch.tensor(values, dtype=torch.float32)[None] for values in (x, y))
    dense = cells.dense(written(run, kv, rows(x), rows(x), [0]))
    assert torch.equal(dense[0, 0, 0, :1], y) and torch.equal(dense[1, 0, 1, :1], y)


@pytest.mark.parametrize("kv", CODES)
def test_a_row_that_holds_no_number_is_nan_as_a_whole_and_no_other_is(run, kv):
    x = normal(3, K, 32, seed=1)
    k, v = x.clone(), x.clone()
    k[0, 1, 5], v[1, 0, 31], v[2, 1, 0] = float("nan"), float("inf"), float("-inf")
    dense = cells.dense(written(run, kv, k, v, [0]))[:, 0, :, :3]
    nan = torch.zeros(2, K, 3, dtype=torch.bool)
    nan[0, 1, 0] = nan[1, 0, 1] = nan[1, 1, 2] = True
    assert torch.equal(dense.isnan().all(-1), nan) and torch.equal(dense.isnan().any(-1), nan)


@pytest.mark.parametrize("kv", CODES)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 300.0])
def test_the_scale_of_values_changes_no_share_of_the_error(run, kv, scale):
    """Values of any size that fp16 holds lose what their codes lose, and no more where they are weighed."""
    q, k, v = normal(1, H, 64, seed=2), normal(200, K, 64, seed=3), (normal(200, K, 64, seed=4) * scale).half()
    kv_pages = written(run, kv, k, v, list(range(13)))
    operands = (q, kv_pages, torch.arange(13).int()[None], ints(0), ints(1), ints(200))
    y = run("paged_attention", *operands, scale=0.125)
    exact = cells.dense(kv_pages).permute(0, 1, 3, 2, 4).reshape(2, 208, K, 64)[:, :200].repeat_interleave(2, 2)
    p = (torch.einsum("qhe,khe->hqk", q.float(), exact[0]) * 0.125).softmax(-1)
    error = (y.float() - torch.einsum("hqk,khe->qhe", p, exact[1])).abs().max() / y.float().abs().max()
    assert error < (2e-3 if scale >= 1 else 4e-3)  # the smallest results are fp16 denormals, 6e-8 apart


@pytest.mark.parametrize("kv", CODES)
@pytest.mark.parametrize(("n", "window"), [(1, 0), (1, 20), (20, 0)])
def test_what_lies_beyond_the_last_key_changes_nothing(run, kv, n, window):
    """Codes that are no number of e4m3, scales that are NaN: in the rest of the last page, and in other pages."""
    q, k, v = normal(n, H, 32, seed=5), normal(37, K, 32, seed=6), normal(37, K, 32, seed=7)
    table, lengths = ints(4, 0, 2, 3)[None], (ints(0), ints(n), ints(37))
    clean = written(run, kv, k, v, [4, 0, 2])
    first = run("paged_attention", q, clean, table, *lengths, scale=0.2, window=window)
    dirty = clean.clone()
    numbers, scales = cells.parts(dirty)
    for x in (*numbers, *scales):
        junk = float("nan") if x.is_floating_point() else 127
        x[2, :, 5:], x[1], x[3] = junk, junk, junk
    assert torch.equal(run("paged_attention", q, dirty, table, *lengths, scale=0.2, window=window), first)
    assert first.isfinite().all() and first.abs().amax() > 0


@pytest.mark.parametrize("kv", CODES)
def test_in_one_go_or_in_chunks_pages_hold_the_same(run, kv):
    k, v = normal(40, K, 32, seed=8), normal(40, K, 32, seed=9)
    whole = written(run, kv, k, v, [2, 0, 1])
    kept = pages(kv, 3, 32)
    for at in (range(17), range(17, 18), range(18, 40)):
        kept = run("kv_append", kept, k[at], v[at], ints(*([2, 0, 1][j // B] * B + j % B for j in at)))
    assert torch.equal(whole.view(torch.uint8), kept.view(torch.uint8))


@pytest.mark.cpu
@pytest.mark.parametrize(("kv", "bound"), [("i8", 0.5 / 127), ("e4m3", 2**-4)])
def test_codes_are_within_half_a_step(kv, bound):
    x = normal(64, 128, seed=10).float()
    y = cells.decode(*cells.encode(x, DTYPES[kv]), torch.float32)
    relative_to = x.abs().amax(-1, keepdim=True) if kv == "i8" else x.abs().clamp_min(1e-2)
    assert ((y - x).abs() / relative_to).max() <= bound * (1 + 1e-6)
