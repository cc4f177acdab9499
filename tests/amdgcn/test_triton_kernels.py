"""Triton kernels beyond our own, executed: spills, atomics, loops that data bound, every matrix type, scans, sorts,
calls, wide integers, transcendental functions and random numbers, against torch, NumPy or exact integers."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from forge.amdgcn.bridge import emulate
from forge.amdgcn.emulate import Checks
from forge.language import interpreted
from forge.lower.launch import Launch
from forge.target import TARGETS

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

WHOLE = ("gfx942", "gfx1100", "gfx1201")
ALL = (*WHOLE, "gfx90a", "gfx950", "gfx1151")


@pytest.fixture(params=WHOLE)
def arch(request):
    return request.param


def run(arch, fn, *args, grid=(1,), num_warps=4, **constexprs):
    """Emulate a launch with every check on; what it did."""
    options = {"num_warps": num_warps, "enable_fp_fusion": True}
    launch = Launch(fn, (*grid, 1, 1)[:3], args, options | constexprs)
    return emulate(launch, TARGETS[arch], Checks(waits=True, races=True))


def integers(*shape, low=-8, high=8, seed=0):
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Registers and control


@triton.jit
def _centre(x_ptr, y_ptr, N: tl.constexpr):
    """Every element of a row stays live over the reduction."""
    at = tl.program_id(0) * N + tl.arange(0, N)
    x = tl.load(x_ptr + at)
    tl.store(y_ptr + at, x - tl.max(x, 0))


@pytest.mark.parametrize("arch", ALL)
def test_registers_spilled_to_scratch_come_back(arch):
    """128 values a lane, where the waves asked for on a SIMD leave it 64 or 96 registers."""
    lanes = TARGETS[arch].wave
    x = normal(3, 128 * lanes)
    y = torch.empty_like(x)
    done = run(arch, _centre, x, y, grid=(3,), num_warps=1, waves_per_eu=8 if lanes == 64 else 16, N=x.shape[1])
    assert done.object.vgpr_spills > 0 and done.object.scratch > 0
    assert torch.equal(y, x - x.amax(1, keepdim=True))


@triton.jit
def _collatz(x_ptr, steps_ptr):
    n = tl.load(x_ptr + tl.program_id(0))
    steps = 0
    while n != 1:
        n = tl.where(n % 2 == 0, n // 2, 3 * n + 1)
        steps += 1
    tl.store(steps_ptr + tl.program_id(0), steps)


def test_a_loop_of_another_length_in_each_program(arch):
    x = torch.arange(1, 41, dtype=torch.int32)
    steps = torch.empty_like(x)
    run(arch, _collatz, x, steps, grid=(40,), num_warps=1)

    def collatz(n):
        return 0 if n == 1 else 1 + collatz(n // 2 if n % 2 == 0 else 3 * n + 1)

    assert steps.tolist() == [collatz(n) for n in range(1, 41)]


@triton.jit
def _ragged_sums(x_ptr, start_ptr, y_ptr, BLOCK: tl.constexpr):
    """y[p] = the sum of x[start[p] : start[p + 1]]"""
    begin, end = tl.load(start_ptr + tl.program_id(0)), tl.load(start_ptr + tl.program_id(0) + 1)
    total = tl.zeros([BLOCK], tl.int32)
    for at in range(begin, end, BLOCK):
        inside = at + tl.arange(0, BLOCK)
        total += tl.load(x_ptr + inside, mask=inside < end, other=0)
    tl.store(y_ptr + tl.program_id(0), tl.sum(total, 0))


def test_a_loop_bounded_by_what_memory_holds(arch):
    starts = torch.tensor([0, 0, 1, 130, 1000, 1128, 1129], dtype=torch.int32)
    x = integers(1129, low=-1000, high=1000).int()
    y = torch.empty(6, dtype=torch.int32)
    run(arch, _ragged_sums, x, starts, y, grid=(6,), BLOCK=128)
    assert y.tolist() == [int(x[a:b].sum()) for a, b in pairwise(starts.tolist())]


@triton.jit
def _ids(y_ptr):
    x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    at = (z * tl.num_programs(1) + y) * tl.num_programs(0) + x
    tl.store(y_ptr + at, x + 100 * y + 10000 * z + 1000000 * tl.num_programs(2))


@pytest.mark.parametrize("arch", ALL)
@pytest.mark.parametrize("grid", [(5,), (3, 4), (2, 3, 5)])
def test_programs_know_their_place_in_the_grid(arch, grid):
    x, y, z = (*grid, 1, 1)[:3]
    out = torch.zeros(z, y, x, dtype=torch.int32)
    run(arch, _ids, out, grid=grid)
    axes = torch.meshgrid(torch.arange(z), torch.arange(y), torch.arange(x), indexing="ij")
    assert torch.equal(out.long(), axes[2] + 100 * axes[1] + 10000 * axes[0] + 1000000 * z)


@triton.jit(noinline=True)
def _mixed(x, y):
    return x * 3 + (y ^ 5)


@triton.jit
def _calls(x_ptr, y_ptr):
    at = tl.program_id(0)
    x = tl.load(x_ptr + at)
    tl.store(y_ptr + at, _mixed(_mixed(x, at), x))


def test_a_call_of_a_function_that_is_not_inlined(arch):
    x = integers(20, low=-1000, high=1000).int()
    y = torch.empty_like(x)
    done = run(arch, _calls, x, y, grid=(20,))
    assert "s_swappc_b64" in done.object.assembly
    at = torch.arange(20)
    once = x * 3 + (at ^ 5)
    assert torch.equal(y.long(), once * 3 + (x ^ 5))


# Atomics


@triton.jit
def _count(bin_ptr, counts_ptr, rank_ptr, weight_ptr, total_ptr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    bin = tl.load(bin_ptr + at)
    tl.store(rank_ptr + at, tl.atomic_add(counts_ptr + bin, 1))
    tl.atomic_add(total_ptr + bin, tl.load(weight_ptr + at))


@pytest.mark.parametrize("arch", ALL)
def test_atomic_sums_lose_nothing_where_lanes_collide(arch):
    bins, weights = integers(512, low=0, high=6).int(), integers(512).float()
    counts, rank, totals = torch.zeros(7, dtype=torch.int32), torch.empty(512, dtype=torch.int32), torch.zeros(7)
    run(arch, _count, bins, counts, rank, weights, totals, grid=(4,), BLOCK=128)
    assert torch.equal(counts.long(), torch.bincount(bins, minlength=7))
    assert torch.equal(totals, torch.bincount(bins, weights, minlength=7).float())
    for bin in range(7):  # what each lane was given back: every count once
        assert sorted(rank[bins == bin].tolist()) == list(range(int(counts[bin])))


@triton.jit
def _extremes(x_ptr, f_ptr, y_ptr, g_ptr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at)
    one = tl.zeros([BLOCK], tl.int32)
    tl.atomic_max(y_ptr + one, x)
    tl.atomic_min(y_ptr + 1 + one, x)
    tl.atomic_or(y_ptr + 2 + one, x)
    tl.atomic_and(y_ptr + 3 + one, x)
    tl.atomic_xor(y_ptr + 4 + one, x)
    tl.atomic_max(g_ptr + one, tl.load(f_ptr + at))
    tl.atomic_min(g_ptr + 1 + one, tl.load(f_ptr + at))


def test_atomic_extremes_and_bits(arch):
    # On CDNA Triton first reduces lanes that name one address, and that as unsigned numbers (umax for tl.atomic_max):
    # there its code objects are wrong on mixed signs, so the numbers have one.
    low = 1 if arch == "gfx942" else -(2**30)
    x, f = integers(256, low=low, high=2**30).int(), normal(256)
    y, g = torch.tensor([0, 2**30, 0, -1, 0], dtype=torch.int32), torch.zeros(2)
    run(arch, _extremes, x, f, y, g, grid=(2,), BLOCK=128)
    n = x.numpy()
    bits = [np.bitwise_or.reduce(n), np.bitwise_and.reduce(n), np.bitwise_xor.reduce(n)]
    assert y.tolist() == [n.max(), n.min(), *bits]
    assert g.tolist() == [f.max(), f.min()]


@triton.jit
def _elect(winner_ptr, seen_ptr, swapped_ptr):
    me = tl.program_id(0) + 1
    tl.store(seen_ptr + me - 1, tl.atomic_cas(winner_ptr, 0, me))
    tl.store(swapped_ptr + me, tl.atomic_xchg(swapped_ptr, me))


def test_compare_and_swap_elects_one(arch):
    winner, seen, swapped = (torch.zeros(n, dtype=torch.int32) for n in (1, 6, 7))
    run(arch, _elect, winner, seen, swapped, grid=(6,))
    assert 1 <= int(winner) <= 6
    assert sorted(seen.tolist()) == sorted([0] + 5 * [int(winner)]) and int(seen[int(winner) - 1]) == 0
    assert sorted(swapped.tolist()) == list(range(7))  # the chain of exchanges drops none and doubles none


# Matrix products


@triton.jit
def _matmul(
    a_ptr, b_ptr, c_ptr, K, a_stride, b_stride_k, b_stride_n,
    M: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, OUT: tl.constexpr,
):  # fmt: skip
    rows, columns, depth = tl.arange(0, M), tl.arange(0, N), tl.arange(0, BLOCK)
    acc = tl.zeros([M, N], OUT)
    for k in range(0, K, BLOCK):
        a = tl.load(a_ptr + rows[:, None] * a_stride + (k + depth)[None, :])
        b = tl.load(b_ptr + (k + depth)[:, None] * b_stride_k + columns[None, :] * b_stride_n)
        acc = tl.dot(a, b, acc, input_precision="ieee", out_dtype=OUT)
    tl.store(c_ptr + rows[:, None] * N + columns[None, :], acc)


FNUZ, OCP = torch.float8_e4m3fnuz, torch.float8_e4m3fn
CDNA = {"f16": r"mfma_f32_.*[_\d]f16", "bf16": "mfma_f32_.*bf16", "i8": "mfma_i32_.*i8", "f32": "mfma_f32_.*f32"}
RDNA = {"f16": "wmma_f32_.*_f16", "bf16": "wmma_f32_.*_bf16", "i8": "wmma_i32_.*_iu8", "f32": "fma"}
NATIVE = {  # the instruction that multiplies: gfx942 has fp8 of the fnuz kind, and Triton widens OCP's to f16 there
    "gfx90a": CDNA,
    "gfx942": CDNA | {"fnuz": "mfma_f32_.*_fp8_fp8", "ocp": "mfma_f32_.*_f16"},
    "gfx950": CDNA,
    "gfx1100": RDNA,
    "gfx1151": RDNA,
    "gfx1201": RDNA | {"ocp": "wmma_f32_.*_fp8_fp8"},
}
TYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "i8": torch.int8, "f32": torch.float32, "fnuz": FNUZ, "ocp": OCP}


@pytest.mark.parametrize("transposed", [False, True], ids=["", "transposed"])
@pytest.mark.parametrize(("arch", "type"), [(arch, type) for arch in NATIVE for type in NATIVE[arch]])
def test_matrix_products_of_every_type_are_exact_on_integers(arch, type, transposed):
    high = 127 if type == "i8" else 8
    a, b = integers(32, 128, low=-high, high=high), integers(128, 64, low=-high, high=high, seed=1)
    c = torch.empty(32, 64, dtype=torch.int32 if type == "i8" else torch.float32)
    left, right = a.to(TYPES[type]), b.to(TYPES[type])
    if transposed:
        right = right.t().contiguous().t()
    out = tl.int32 if type == "i8" else tl.float32
    done = run(arch, _matmul, left, right, c, 128, 128, *right.stride(), M=32, N=64, BLOCK=64, OUT=out)
    used = {*re.findall(r"v_(?:mfma|wmma|\w*fma)\w+", done.object.assembly)}
    assert any(re.search(NATIVE[arch][type], name) for name in used), used
    assert torch.equal(c.long(), a @ b)


def test_a_product_in_double_precision(arch):
    a, b = normal(32, 64).double(), normal(64, 32, seed=1).double()
    c = torch.empty(32, 32, dtype=torch.float64)
    run(arch, _matmul, a, b, c, 64, 64, 32, 1, M=32, N=32, BLOCK=32, OUT=tl.float64)
    assert torch.allclose(c, a @ b, rtol=1e-13, atol=1e-13)


# Across lanes and waves


@triton.jit
def _across(x_ptr, index_ptr, sort_ptr, sums_ptr, gathered_ptr, rows_ptr, M: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    x, index = tl.load(x_ptr + at), tl.load(index_ptr + at)
    tl.store(sort_ptr + at, tl.sort(x, 1))
    tl.store(sums_ptr + at, tl.cumsum(x, 1))
    tl.store(gathered_ptr + at, tl.gather(x, index, 1))
    tl.store(rows_ptr + tl.arange(0, N), tl.sum(x, 0))
    tl.store(rows_ptr + N + tl.arange(0, N), tl.argmax(x, 0))


@pytest.mark.parametrize("num_warps", [1, 2, 8])
def test_sorts_scans_gathers_and_reductions(arch, num_warps):
    x = torch.stack([torch.randperm(64, generator=torch.Generator().manual_seed(i)) for i in range(16)]).int()
    x = x * 16 + torch.arange(16, dtype=torch.int32)[:, None]  # no two alike, so that argmax has one answer
    index = integers(16, 64, low=0, high=63).int()
    sorted_, sums, gathered = (torch.empty_like(x) for _ in range(3))
    rows = torch.empty(2, 64, dtype=torch.int32)
    run(arch, _across, x, index, sorted_, sums, gathered, rows, num_warps=num_warps, M=16, N=64)
    assert torch.equal(sorted_, x.sort(1).values)
    assert torch.equal(sums.long(), x.cumsum(1))
    assert torch.equal(gathered, x.gather(1, index.long()))
    assert torch.equal(rows.long(), torch.stack([x.sum(0), x.argmax(0)]))


# Numbers


@triton.jit
def _wide(x_ptr, y_ptr, out_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    x, y = tl.load(x_ptr + at), tl.load(y_ptr + at)
    tl.store(out_ptr + at, x * y)
    tl.store(out_ptr + N + at, x // y)
    tl.store(out_ptr + 2 * N + at, x % y)
    tl.store(out_ptr + 3 * N + at, (x << 7) ^ (y >> 13))
    tl.store(out_ptr + 4 * N + at, tl.where(x < y, x - y, tl.umulhi(x, y)))
    tl.store(out_ptr + 5 * N + at, tl.cumsum(x, 0))


def test_64_bit_integers(arch):
    x = integers(128, low=-(2**62), high=2**62)
    y = integers(128, low=1, high=2**62, seed=1) >> (torch.arange(128) % 60)
    y = torch.where(y == 0, 1, y) * torch.where(torch.arange(128) % 3 == 0, -1, 1)
    out = torch.empty(6, 128, dtype=torch.int64)
    run(arch, _wide, x, y, out, N=128)

    def signed(value):
        return (value + 2**63) % 2**64 - 2**63

    pairs = list(zip(x.tolist(), y.tolist(), strict=True))
    truncated = [abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) for a, b in pairs]
    expected = [
        [signed(a * b) for a, b in pairs],
        truncated,
        [a - q * b for (a, b), q in zip(pairs, truncated, strict=True)],
        [signed(a << 7) ^ (b >> 13) for a, b in pairs],
        [signed(a - b) if a < b else signed((a % 2**64) * (b % 2**64) >> 64) for a, b in pairs],
        [signed(sum(a for a, _ in pairs[: i + 1])) for i in range(128)],
    ]
    assert out.tolist() == expected


@triton.jit
def _functions(x_ptr, y_ptr, N: tl.constexpr, TURN: tl.constexpr):
    at = tl.arange(0, N)
    x = tl.load(x_ptr + at)
    if TURN:
        tl.store(y_ptr + at, tl.sin(x))
        tl.store(y_ptr + N + at, tl.cos(x))
    tl.store(y_ptr + 2 * N + at, tl.exp(x * 0.1))
    tl.store(y_ptr + 3 * N + at, tl.log(tl.abs(x)))
    tl.store(y_ptr + 4 * N + at, tl.sqrt(tl.abs(x)))
    tl.store(y_ptr + 5 * N + at, tl.erf(x * 0.1))
    tl.store(y_ptr + 6 * N + at, tl.rsqrt(tl.abs(x)))
    tl.store(y_ptr + 7 * N + at, tl.floor(x) / x)


@pytest.mark.parametrize("type", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_transcendental_functions(arch, type):
    x = (normal(256) * 10).to(type)
    y = torch.empty(8, 256, dtype=type)
    turn = type == torch.float32
    run(arch, _functions, x, y, N=256, TURN=turn)
    d = x.double()
    expected = torch.stack([
        d.sin(), d.cos(), (d * 0.1).exp(), d.abs().log(), d.abs().sqrt(), torch.erf(d * 0.1), d.abs().rsqrt(),
        d.floor() / d,
    ])  # fmt: skip
    bound = 2e-6 if type == torch.float32 else 1e-13  # the ISA's own f32 functions err by an ulp or two of their range
    assert ((y - expected).abs() <= bound * (1 + expected.abs()))[0 if turn else 2 :].all()


@triton.jit
def _philox(y_ptr, u_ptr, seed, N: tl.constexpr):
    at = tl.arange(0, N)
    a, b, c, d = tl.randint4x(seed, at)
    tl.store(y_ptr + at, a)
    tl.store(y_ptr + N + at, b)
    tl.store(y_ptr + 2 * N + at, c)
    tl.store(y_ptr + 3 * N + at, d)
    tl.store(u_ptr + at, tl.rand(seed, at))


def philox(counter, seed):
    """Philox-4x32-10 of the counter (n, 0, 0, 0).  Source: Salmon et al., "Parallel random numbers", SC 2011."""
    c, k = [counter, 0, 0, 0], [seed % 2**32, seed >> 32]
    for _ in range(10):
        high, low = divmod(c[0] * 0xD2511F53, 2**32)
        top, bottom = divmod(c[2] * 0xCD9E8D57, 2**32)
        c = [top ^ c[1] ^ k[0], bottom, high ^ c[3] ^ k[1], low]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def test_random_numbers_are_philox(arch):
    y, u, seed = torch.empty(4, 128, dtype=torch.int32), torch.empty(128), 0x1234_5678_9ABC
    run(arch, _philox, y, u, seed, N=128)
    expected = [philox(n, seed) for n in range(128)]
    assert [[v % 2**32 for v in row] for row in y.t().tolist()] == expected
    assert ((u >= 0) & (u < 1)).all()
