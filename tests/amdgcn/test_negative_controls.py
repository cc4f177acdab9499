"""Wrong code is seen to be wrong: real code objects with one thing broken end in wrong numbers or in the trap's name.

Each control first runs the code as it was compiled, so that what is seen is seen because of the change.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl
from amdgcn.patched import (
    NO_INSTRUCTION,
    as_waves_of_64,
    instructions,
    matching,
    subject,
    with_bits,
    with_text,
    without,
)

from forge.amdgcn.bridge import emulate
from forge.amdgcn.emulate import Checks
from forge.amdgcn.trap import BARRIER, LIMIT, MISALIGNED, OUT_OF_BOUNDS, RACE, SPIN, UNINITIALIZED, UNKNOWN, WAIT
from forge.errors import EmulationError, NumericsError
from forge.graph.types import DTYPES, TensorType
from forge.language import interpreted
from forge.lower.launch import Launch
from forge.target import TARGETS
from forge.verify import Guarded, check, compare, serving

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

WHOLE = ("gfx942", "gfx1100", "gfx1201")
BOTH = Checks(waits=True, races=True)


@pytest.fixture(params=WHOLE)
def arch(request):
    return request.param


@pytest.fixture
def softmax(arch):
    """Three rows over eight waves: two reductions through LDS, masks, loads, stores."""
    found = subject(arch, "softmax.softmax_rows", "f32")
    found.verdict(checks=BOTH)
    return found


def trapped(kind, what, *args, **options):
    """The error of a run that must end in the trap `kind`."""
    with pytest.raises(EmulationError) as caught:
        what(*args, **options)
    assert caught.value.kind == kind
    return caught.value


def launch(fn, *args, grid=(1, 1, 1), num_warps=4, **constexprs):
    return Launch(fn, grid, args, {"num_warps": num_warps, "enable_fp_fusion": True, **constexprs})


# What is right passes every check


def one_case_each():
    """Each kernel with its first small case, on each architecture; not the kernels that are a library's."""
    seen = {}
    for arch in WHOLE:
        for op, case, kernel, _ in serving(TARGETS[arch]):
            if case.small and not kernel.name.endswith("_library"):
                seen.setdefault((arch, kernel.id), (op, case, kernel, arch))
    return [pytest.param(*found, id="-".join(name)) for name, found in seen.items()]


@pytest.mark.parametrize(("op", "case", "kernel", "arch"), one_case_each(), indirect=["arch"])
def test_our_kernels_wait_and_do_not_race(op, case, kernel, arch):
    target = TARGETS[arch]
    check(op, case, kernel, target, "cpu", lambda s: emulate(s, target, BOTH) if isinstance(s, Launch) else s())


# Wrong numbers


@pytest.mark.parametrize("arch", ["gfx1100", "gfx1201"], indirect=True)
def test_an_integer_dot_that_forgets_its_signs_is_wrong(arch):
    gemv = subject(arch, "linear.linear_gemv", "a8 x q4_0")
    gemv.verdict()
    dots = matching(gemv.object, "v_dot4_i32_iu8")
    assert all("neg_lo:[1,1,0]" in i.text for i in dots)
    with pytest.raises(NumericsError, match="relative error"):
        gemv.verdict(with_bits(gemv.object, dots, lambda bits: bits & ~(3 << 61)))


@pytest.mark.parametrize(
    ("arch", "name"), [("gfx942", "v_mfma_f32_32x32x8_f16"), ("gfx1100", "v_wmma_f32"), ("gfx1201", "v_wmma_f32")],
    indirect=["arch"],
)  # fmt: skip
def test_a_matrix_product_with_its_operands_swapped_is_wrong(arch, name):
    tile = subject(arch, "linear.linear_tile", "ragged tokens x f16")
    tile.verdict()
    one = matching(tile.object, name)[0]
    assert one.operands["S0"] != one.operands["S1"]

    def swapped(bits):
        first, second = bits >> 32 & 0x1FF, bits >> 41 & 0x1FF
        return bits & ~(0x3FFFF << 32) | second << 32 | first << 41

    with pytest.raises(NumericsError, match="relative error"):
        tile.verdict(with_bits(tile.object, [one], swapped))


def test_a_launch_without_its_last_block_is_seen(softmax):
    short = replace(softmax.launch, grid=(softmax.launch.grid[0] - 1, 1, 1))
    with pytest.raises(NumericsError, match="NaN in other places"):
        softmax.verdict(launch=short)


@triton.jit
def _sum_of_64(x_ptr, y_ptr, ASM: tl.constexpr):
    """A butterfly over 64 lanes, as one writes it for waves of 64: right only if a wave has so many."""
    lane = tl.arange(0, 64)
    x = tl.load(x_ptr + lane)
    for step in tl.static_range(6):
        other = (lane ^ (32 >> step)) * 4
        x += tl.inline_asm_elementwise(ASM, "=&v,v,v", [other, x], dtype=tl.float32, is_pure=True, pack=1)
    tl.store(y_ptr + lane, x)


def test_a_reduction_over_waves_of_64_is_wrong_in_waves_of_32(arch):
    x, y = torch.arange(64, dtype=torch.float32), torch.empty(64)
    wait = "s_wait_dscnt 0x0" if arch == "gfx1201" else "s_waitcnt lgkmcnt(0)"
    emulate(launch(_sum_of_64, x, y, num_warps=1, ASM=f"ds_bpermute_b32 $0, $1, $2\n{wait}"), TARGETS[arch])
    assert bool((y == x.sum()).all()) == (arch == "gfx942")


@pytest.mark.parametrize("arch", ["gfx1100", "gfx1201"], indirect=True)
def test_code_for_waves_of_32_started_as_waves_of_64_traps(softmax):
    """The wave size is a bit of the kernel descriptor, and stands in the metadata; a wave of 64 also has half as many
    registers by the same number."""
    trapped(OUT_OF_BOUNDS, softmax.verdict, as_waves_of_64(softmax.object))


@pytest.mark.parametrize("beside", [-1, 15], ids=["before", "after"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "i32"])
def test_a_write_beside_a_result_is_seen(dtype, beside):
    memory = Guarded("cpu")
    out = memory.empty(TensorType((3, 5), DTYPES[dtype]))
    memory.empty(TensorType((4,), DTYPES["f32"]))
    out.fill_(0)
    memory.check("a full result")
    out.as_strided((1,), (1,), out.storage_offset() + beside).fill_(0)
    with pytest.raises(NumericsError, match="writes outside its results"):
        memory.check("one element too many")


@pytest.mark.parametrize(
    ("got", "right"),
    [
        (torch.tensor([1, 2, 4]), torch.tensor([1, 2, 3])),
        (torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 2.0])),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, torch.nan])),
        (torch.tensor([1.0, torch.inf]), torch.tensor([1.0, 2.0])),
        (torch.tensor([1.0, -torch.inf]), torch.tensor([1.0, torch.inf])),
        (torch.tensor([1.0, 2.0001]), torch.tensor([1.0, 2.0])),
        (torch.tensor([1.0, 0.001]), torch.tensor([1.0, 0.0])),
        (torch.full((64,), 1.00001), torch.ones(64)),  # each within the bound, and all of them to one side
        (torch.ones(1, 2), torch.ones(2)),
    ],
)  # fmt: skip
def test_results_that_differ_from_the_oracle_are_seen(got, right):
    assert compare(right, right, "the oracle itself") == 0
    with pytest.raises(NumericsError):
        compare(got, right, "wrong")


# Memory


@triton.jit
def _copy(x_ptr, y_ptr, n, BLOCK: tl.constexpr, OVER: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n + OVER[0])
    tl.store(y_ptr + at, x, mask=at < n + OVER[1])


@pytest.mark.parametrize("over", [(1, 0), (0, 1)], ids=["load", "store"])
def test_a_mask_off_by_one_traps(arch, over):
    x, y = torch.arange(1000.0), torch.zeros(1000)
    fine = launch(_copy, x, y, 1000, grid=(4, 1, 1), BLOCK=256, OVER=(0, 0))
    emulate(fine, TARGETS[arch], BOTH)
    assert torch.equal(x, y)
    error = trapped(OUT_OF_BOUNDS, emulate, replace(fine, meta={**fine.meta, "OVER": over}), TARGETS[arch])
    assert re.search(rf"{'store' if over[1] else 'load'} of 4 bytes at 0x\w+: 0 bytes after [xy]_ptr", str(error))
    assert re.search(
        r"0x\w+: buffer_(load|store)_\w+ .* \(test_negative_controls.py:\d+\), wave \d+, lane \d+", str(error)
    )


def test_a_comparison_of_ours_off_by_one_traps(softmax):
    """cols > offset, a mask of every load and store, becomes cols >= offset."""
    masks = matching(softmax.object, "v_cmp_gt_i32")
    broken = with_text(softmax.object, masks, lambda i: i.text.replace("_gt_", "_ge_"))
    broken = with_bits(broken, masks, lambda bits: bits + (2 << (17 if bits < 1 << 32 else 16)))
    assert "softmax.py:" in str(trapped(OUT_OF_BOUNDS, softmax.verdict, broken))


@triton.jit
def _unaligned(x_ptr, y_ptr):
    at = tl.arange(0, 64)
    words = (x_ptr + 1).to(tl.pointer_type(tl.int32))
    tl.store(y_ptr + at, tl.load(words + at))


def test_a_misaligned_access_traps(arch):
    x, y = torch.zeros(512, dtype=torch.int8), torch.zeros(64, dtype=torch.int32)
    error = trapped(MISALIGNED, emulate, launch(_unaligned, x, y, num_warps=1), TARGETS[arch])
    assert "which 4 does not divide" in str(error)


def test_lds_beyond_what_was_asked_for_traps(softmax):
    trapped(OUT_OF_BOUNDS, softmax.verdict, replace(softmax.object, lds=softmax.object.lds - 4))


def test_lds_read_before_it_is_written_traps(softmax):
    store = matching(softmax.object, "ds_write", "ds_store")[0]
    error = trapped(UNINITIALIZED, softmax.verdict, without(softmax.object, store))
    assert re.search(r"LDS, of which 4 were never stored.*\n.*ds_(read|load)_b32 .*\(standard.py:\d+\)", str(error))


def test_a_register_that_nothing_wrote_traps(softmax):
    """The first write of a vector register but v0, which a wave starts with, is left out."""
    write = next(i for i in matching(softmax.object, "v_") if i.operands["D0"].file == "v" and i.operands["D0"].index)
    error = trapped(UNINITIALIZED, softmax.verdict, without(softmax.object, write))
    assert f"registers v{write.operands['D0'].index} hold nothing yet" in str(error)


# Order between waves, and between an instruction and its operands


def test_every_missing_wait_traps(softmax):
    """All waits but those that no register and no LDS write hangs on: before an invalidation of caches, and in the
    prologue for firmware that preloads no arguments."""
    code = instructions(softmax.object)
    waits = [i for i in code if re.match(r"s_waitcnt$|s_waitcnt_(vm|lgkm)cnt|s_wait_(load|ds|km)cnt", i.name)]
    unseen = []
    for wait in waits:
        try:
            softmax.verdict(without(softmax.object, wait), BOTH)
            unseen.append(wait)
        except EmulationError as error:
            assert error.kind == WAIT
    assert len(waits) - len(unseen) >= 6
    for wait in unseen:
        assert (wait.pc == 0x18 and softmax.arch == "gfx942") or wait.text == "s_wait_loadcnt 0x0"


def test_every_missing_barrier_traps(softmax):
    barriers = matching(softmax.object, "s_barrier")
    for barrier in barriers:
        kind = BARRIER if barrier.name == "s_barrier_signal" else RACE
        trapped(kind, softmax.verdict, without(softmax.object, barrier), BOTH)
    assert len(barriers) >= (6 if softmax.arch == "gfx1201" else 3)  # Triton 3.6 has more


def test_missing_waits_and_barriers_go_unseen_unless_asked_for(softmax):
    """The machine does loads at once and runs waves in step: without the checks the numbers are right."""
    softmax.verdict(without(softmax.object, *matching(softmax.object, "s_barrier")))


@triton.jit
def _some_wait(x_ptr, ASM: tl.constexpr):
    lane = tl.arange(0, 128)
    x = tl.inline_asm_elementwise(ASM, "=v,v,~{vcc},~{scc}", [lane], dtype=tl.int32, is_pure=False, pack=1)
    tl.store(x_ptr + lane, x)


def test_a_barrier_that_some_waves_go_round_traps(arch):
    barrier = "s_barrier_signal -1\ns_barrier_wait -1" if arch == "gfx1201" else "s_barrier"
    asm = (
        "v_readfirstlane_b32 vcc_lo, $1\ns_cmp_ge_u32 vcc_lo, {from_lane}\n"
        f"s_cbranch_scc1 {len(barrier.splitlines())}\n{barrier}\nv_mov_b32 $0, $1"
    )
    x = torch.zeros(128, dtype=torch.int32)
    warps = 128 // TARGETS[arch].wave
    emulate(launch(_some_wait, x, num_warps=warps, ASM=asm.format(from_lane=128)), TARGETS[arch])
    assert torch.equal(x, torch.arange(128, dtype=torch.int32))
    broken = launch(_some_wait, x, num_warps=warps, ASM=asm.format(from_lane=64))
    error = trapped(BARRIER, emulate, broken, TARGETS[arch])
    assert re.search(r"waves of workgroup 0 wait here, \d have ended", str(error))


@triton.jit
def _count(x_ptr, n, step):
    i = 0
    while i < n:
        i += step
    tl.store(x_ptr, i)


def test_a_loop_without_an_end_traps(arch):
    x = torch.zeros(1, dtype=torch.int32)
    emulate(launch(_count, x, 40, 3), TARGETS[arch])
    assert int(x) == 42
    trapped(SPIN, emulate, launch(_count, x, 40, 0), TARGETS[arch], Checks(limit=5000))
    trapped(LIMIT, emulate, launch(_count, x, 40, 3), TARGETS[arch], Checks(limit=10))


# Code that is not what it says


def test_a_binary_that_differs_from_its_listing_is_not_run(softmax):
    one = matching(softmax.object, "v_max")[0]
    other = with_bits(softmax.object, [one], lambda bits: bits + (1 << (25 if one.size == 4 else 16)))
    error = trapped(UNKNOWN, softmax.verdict, other)
    assert f"{one.pc:#x}" in str(error) and one.text in str(error)


def test_bytes_that_are_no_instruction_trap(softmax):
    one = matching(softmax.object, "v_max")[0]
    trapped(UNKNOWN, softmax.verdict, with_bits(softmax.object, [one], lambda bits: NO_INSTRUCTION))
