"""Workgroups that wait for each other (Faults 20).

The kind: a loop that ends only once another wave, of this workgroup or of any other that a device holds beside it, has
stored to memory or LDS: barriers over the grid, locks, flags, with and without a counter of rounds, in any order of the
workgroups. What nobody will end is said as such, and soon.
"""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from forge.amdgcn.bridge import emulate
from forge.amdgcn.emulate import Checks
from forge.amdgcn.trap import SPIN
from forge.errors import EmulationError
from forge.language import interpreted
from forge.lower.launch import Launch
from forge.target import TARGETS

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

LIMIT = 1_000_000  # instructions: far fewer than a spin without others would run


@pytest.fixture(params=["gfx942", "gfx1100", "gfx1201"])
def arch(request):
    return request.param


def run(arch, fn, *args, grid=1, num_warps=4, **constexprs):
    launch = Launch(fn, (grid, 1, 1), args, {"num_warps": num_warps, "enable_fp_fusion": True} | constexprs)
    return emulate(launch, TARGETS[arch], Checks(limit=LIMIT))


def zeros(*shape):
    return torch.zeros(shape, dtype=torch.int32)


@triton.jit
def _grid_barrier(count_ptr, x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    """Each workgroup reads what the next one wrote before the barrier."""
    group, at = tl.program_id(0), tl.arange(0, BLOCK)
    tl.store(x_ptr + group * BLOCK + at, group + 0 * at)
    tl.debug_barrier()
    tl.atomic_add(count_ptr, 1, sem="acq_rel")
    while tl.atomic_add(count_ptr, 0, sem="acquire") < n:
        pass
    tl.debug_barrier()
    tl.store(y_ptr + group * BLOCK + at, tl.load(x_ptr + (group + 1) % n * BLOCK + at))


def test_a_barrier_over_a_hundred_workgroups(arch):
    x, y = zeros(100, 256), zeros(100, 256)
    run(arch, _grid_barrier, zeros(1), x, y, 100, grid=100, BLOCK=256)
    assert torch.equal(y, ((torch.arange(100) + 1) % 100).int()[:, None].expand(-1, 256))


@triton.jit
def _locked(lock_ptr, x_ptr, BLOCK: tl.constexpr):
    while tl.atomic_cas(lock_ptr, 0, 1) == 1:
        pass
    at = tl.arange(0, BLOCK)
    tl.store(x_ptr + at, tl.load(x_ptr + at) + 1)
    tl.debug_barrier()
    tl.atomic_xchg(lock_ptr, 0)


def test_a_lock_that_a_hundred_workgroups_take(arch):
    x = zeros(256)
    run(arch, _locked, zeros(1), x, grid=100, BLOCK=256)
    assert (x == 100).all()


@triton.jit
def _chain(done_ptr, y_ptr, COUNTED: tl.constexpr):
    """Workgroup g waits for g + 1, which begins after it."""
    group, rounds = tl.program_id(0), 0
    while tl.load(done_ptr + group + 1, volatile=True) == 0:
        if COUNTED:
            rounds += 1
    tl.store(y_ptr + group, tl.minimum(rounds, 1))
    tl.debug_barrier()
    tl.atomic_xchg(done_ptr + group, 1)


@pytest.mark.parametrize("counted", [False, True], ids=["as_it_was", "counts_rounds"])
def test_flags_of_workgroups_that_begin_later(arch, counted):
    done, y = zeros(65), zeros(64)
    done[64] = 1
    run(arch, _chain, done, y, grid=64, COUNTED=counted)
    assert (done == 1).all()
    assert (y[:63] == counted).all()


def test_a_flag_that_nobody_sets_is_said_soon(arch):
    with pytest.raises(EmulationError, match=SPIN) as caught:
        run(arch, _chain, zeros(65), zeros(64), grid=64, COUNTED=False)
    assert "256 waves go round" in str(caught.value) and "test_spinning.py" in str(caught.value)


def test_a_lock_that_nobody_holds_open_is_said_soon(arch):
    with pytest.raises(EmulationError, match=SPIN) as caught:
        run(arch, _locked, zeros(1) + 1, zeros(256), grid=3, BLOCK=256)
    assert "others wait at a barrier" in str(caught.value)


def test_more_workgroups_than_a_device_holds_wait_in_vain():
    """gfx1151 has 40 compute units of 2 SIMDs of 16 waves: 320 workgroups of 4 waves."""
    y = zeros(400, 32)
    with pytest.raises(EmulationError, match="workgroups have not begun"):
        run("gfx1151", _grid_barrier, zeros(1), zeros(400, 32), y, 400, grid=400, BLOCK=32)


@triton.jit
def _counts(x_ptr, n):
    """A long loop that waits for nobody, whose registers change in each round."""
    total = 0
    for i in range(n):
        total += tl.load(x_ptr + i % 3)
    tl.store(x_ptr + 3 + tl.program_id(0), total)


def test_a_long_loop_ends_as_it_should(arch):
    x = torch.tensor([1, 2, 3] + [0] * 40, dtype=torch.int32)
    run(arch, _counts, x, 3000, grid=40, num_warps=1)
    assert (x[3:] == 6000).all()
