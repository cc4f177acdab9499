"""Counters of a launch against counts made by hand: every byte, lane, conflict and product, and no other."""

from __future__ import annotations

import importlib
from collections import Counter
from math import prod

import numpy as np
import pytest
from amdgcn.assembled import ARCHS, LANES, assemble, waves

from forge.amdgcn.bridge import emulate
from forge.amdgcn.code.decode import decode_all
from forge.amdgcn.counters import KINDS, Counters, banks, counters, kind
from forge.amdgcn.emulate import Emulation
from forge.amdgcn.machine.lockstep import Machine
from forge.amdgcn.machine.program import program
from forge.amdgcn.state.memory import Memory
from forge.amdgcn.state.traffic import Meter, Traffic
from forge.errors import EmulationError
from forge.graph.op import Case
from forge.graph.types import DTYPES, tensor
from forge.kernels import load
from forge.language import interpreted
from forge.lower.launch import Launch
from forge.lower.select import call_of
from forge.target import TARGETS
from forge.verify import check

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

# What the instructions of an encoding may be counted as.
OF_ENCODING = {
    "SOP": {"salu", "branch", "barrier", "wait", "hint", "cache"},
    "SMEM": {"scalar load", "cache"},
    "VOP3P": {"valu", "matrix"},
    "VOP": {"valu", "hint"},
    "DS": {"lds", "crossbar", "cache"},
    "GLOBAL": {"load", "store", "atomic", "cache"},
    "FLAT": {"load", "store", "atomic"},
    "SCRATCH": {"load", "store"},
    "MUBUF": {"load", "store", "atomic", "cache"},
    "VBUFFER": {"load", "store", "atomic", "cache"},
}


def counted(arch: str, lines: str, n: int = 2, *, lds: int = 0, scratch: int = 0, memory: Memory | None = None, **set):
    """Counters of `lines` run by `n` waves; `set` gives vector registers as arrays that broadcast to [n, lanes]."""
    state = waves(arch, n, lds=lds, scratch=scratch, memory=memory)
    for name, value in set.items():
        if name[0] == "v":
            state.vgpr[int(name[1:])] = value
        else:
            state.sgpr[int(name[1:])] = value
    meter = Meter(banks(arch))
    meter.watch(state)
    steps = program(decode_all(assemble(arch, lines), arch, LANES[arch]), arch, 0)
    Machine(steps, count_lanes=True).run(state)
    return counters(steps.values(), meter, arch, LANES[arch], 1, n)


def launched(op: str, case: Case, kernel: str, arch: str) -> Counters:
    target = TARGETS[arch]
    done = check(load()[op], case, load()[op].kernels[kernel], target, "cpu", lambda s: _count(s, target)).tasks
    (one,) = (s for s in done if isinstance(s, Emulation))
    assert one.counters is not None and one.counters.total == one.instructions
    return one.counters


def _count(step, target):
    return emulate(step, target, count=True) if isinstance(step, Launch) else step()


@pytest.mark.parametrize("family", ["cdna", "rdna3", "rdna4"])
def test_every_instruction_is_of_a_kind_that_its_encoding_allows(family):
    codes = importlib.import_module(f"tinygrad.runtime.autogen.amd.{family}.str_pcode").PCODE
    seen: Counter[str] = Counter()
    for code in codes:
        encoding, name = type(code).__name__.removesuffix("Op"), code.name.lower()
        allowed = next((kinds for start, kinds in OF_ENCODING.items() if encoding.startswith(start)), None)
        if allowed is None or name.startswith(
            ("s_scratch_store", "s_store", "s_atomic", "s_buffer_store", "s_buffer_a")
        ):
            continue  # images, exports and stores from scalar registers: no kernel of ours can have them
        assert kind(name) in allowed, (encoding, name)
        seen[kind(name)] += 1
    common = {"valu", "salu", "load", "store", "atomic", "lds", "crossbar", "scalar load", "branch"}
    assert seen.keys() >= common


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("v_dual_fmac_f32::v_dual_mov_b32", "dual"), ("s_cbranch_vccnz", "branch"), ("s_waitcnt", "wait"),
        ("v_mfma_f32_32x32x8_f16", "matrix"), ("v_wmma_f32_16x16x16_f16", "matrix"), ("s_wait_loadcnt_dscnt", "wait"),
        ("s_wait_alu", "wait"), ("s_delay_alu", "hint"), ("v_nop", "hint"), ("s_barrier_signal", "barrier"),
        ("buffer_gl0_inv", "cache"), ("global_wb", "cache"), ("global_load_lds_dword", "load"), ("s_endpgm", "branch"),
        ("buffer_atomic_pk_add_f16", "atomic"), ("ds_bpermute_b32", "crossbar"), ("ds_read2st64_b32", "lds"),
        ("ds_add_rtn_u32", "lds"), ("v_readfirstlane_b32", "valu"), ("v_accvgpr_read_b32", "valu"),
        ("s_and_saveexec_b64", "salu"), ("s_load_dwordx4", "scalar load"), ("s_getpc_b64", "branch"),
    ],
)  # fmt: skip
def test_kinds_are_those_of_the_documents(name, wanted):
    assert kind(name) == wanted and wanted in KINDS


def test_what_is_of_no_kind_is_an_error():
    with pytest.raises(EmulationError, match="image_load is of no kind"):
        kind("image_load")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("shape", [(3, 1280), (7, 1031), (1, 1)], ids=str)
def test_an_addition_loads_and_stores_each_element_once(arch, shape):
    """Nothing that a mask keeps out is counted, be the mask in EXEC or in the address."""
    counts = launched("add", Case("add", (tensor("f32", *shape), tensor("f16", *shape))), "add_flat", arch)
    n = prod(shape)
    assert counts.memory.loaded.total() == 6 * n and counts.memory.stored.total() == 4 * n
    assert not counts.memory.changed and not counts.scratch.bytes and not counts.multiply_adds
    if n == 1:
        assert counts.memory == Traffic(Counter({4: 4, 2: 2}), Counter({4: 4}))
        assert counts.idle == 1 - 3 / (counts.memory_slots) and counts.memory.accesses == 3
    if shape == (3, 1280):
        assert set(counts.memory.loaded) <= {8, 16} and counts.waves == 4 * counts.workgroups == 24
    assert counts.active == counts.slots == counts.valu * LANES[arch]


@pytest.mark.parametrize("arch", ARCHS)
def test_a_tile_product_makes_every_multiply_add_once(arch):
    """128 tokens and columns are whole tiles: no product is of padding, and none is made twice."""
    case = Case("whole tiles", (tensor("f16", 128, 256), tensor("f16", 128, 256), None), {"out": "f16"})
    counts = launched("linear", case, "linear_tile", arch)
    assert counts.multiply_adds == 128 * 128 * 256 and counts.instructions["matrix"]
    assert counts.memory.stored.total() == 128 * 128 * 2


def test_counts_are_the_same_each_time_and_add_up():
    op, target = load()["add"], TARGETS["gfx1100"]
    case = Case("add", (tensor("f32", 5, 96), tensor("f32", 5, 96)))
    kernel = op.kernels["add_flat"]
    assert kernel.serves(call_of(op, case.types, case.attrs, target))
    first, second = (launched("add", case, "add_flat", "gfx1100") for _ in range(2))
    assert first == second
    both = first + second
    assert both.total == 2 * first.total and both.memory.loaded[16] == 2 * first.memory.loaded[16]
    assert (both.masked, both.idle) == (first.masked, first.idle) and both.json()["waves"] == 2 * first.waves
    assert first == launched("add", case, "add_flat", "gfx1100"), "adding changed what was added"


NARROW = {
    "gfx942": "s_mov_b64 exec, 0x1f",
    "gfx1100": "s_mov_b32 exec_lo, 0x1f",
    "gfx1201": "s_mov_b32 exec_lo, 0x1f",
}


@pytest.mark.parametrize("arch", ARCHS)
def test_lanes_that_exec_turns_off_are_masked(arch):
    counts = counted(arch, f"v_add_f32 v1, v2, v3\n{NARROW[arch]}\nv_mul_f32 v1, v2, v3\nv_mov_b32 v4, v5", n=3)
    lanes = LANES[arch]
    assert counts.instructions == {"valu": 9, "salu": 3, "branch": 3}
    assert (counts.slots, counts.active) == (9 * lanes, 3 * (lanes + 5 + 5))
    assert counts.masked == pytest.approx(1 - (lanes + 10) / (3 * lanes))


def test_a_dual_instruction_is_one_instruction():
    counts = counted("gfx1100", "v_dual_add_f32 v0, v2, v5 :: v_dual_mul_f32 v1, v3, v4", n=2)
    assert counts.instructions == {"dual": 2, "branch": 2} and counts.valu == 2 and counts.slots == 2 * 32


READS = {
    "gfx942": "ds_write_b32 v0, v1\ns_waitcnt lgkmcnt(0)\nds_read_b32 v2, v0",
    "gfx1100": "ds_store_b32 v0, v1\ns_waitcnt lgkmcnt(0)\nds_load_b32 v2, v0",
    "gfx1201": "ds_store_b32 v0, v1\ns_wait_dscnt 0x0\nds_load_b32 v2, v0",
}
# The stride of 32 lanes' dwords: how many lanes share a bank, and so how many cycles are too many.
STRIDES = {4: 0, 8: 1, 16: 3, 128: 31, 132: 0, 0: 0}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("stride", STRIDES)
def test_conflicts_are_the_lanes_that_wait_for_a_bank(arch, stride):
    lanes = LANES[arch]
    counts = counted(arch, READS[arch], n=2, lds=16384, v0=np.arange(lanes, dtype=np.uint32) * stride)
    assert counts.lds == Traffic(Counter({4: 2 * lanes * 4}), Counter({4: 2 * lanes * 4}))
    assert counts.conflicts == 2 * 2 * (lanes // 32) * STRIDES[stride]
    assert counts.instructions["lds"] == 4 and not counts.memory.bytes


@pytest.mark.parametrize("arch", ARCHS)
def test_a_lane_that_is_off_waits_for_no_bank(arch):
    address = np.arange(LANES[arch], dtype=np.uint32) * 128
    write, read = READS[arch].split("\n")[::2]
    counts = counted(arch, f"{write}\n{NARROW[arch]}\n{read}", n=1, lds=16384, v0=address)
    assert counts.conflicts == 31 * (LANES[arch] // 32) + 4


@pytest.mark.parametrize("arch", ARCHS)
def test_two_addresses_and_atomics_of_lds_are_counted_as_what_they_are(arch):
    write, read = ("write", "read") if arch == "gfx942" else ("store", "load")
    pair = "2" if arch == "gfx942" else "_2addr"
    lines = f"ds_{write}{pair}_b64 v0, v[2:3], v[4:5] offset1:1\n{NARROW[arch]}\n"
    lines += f"ds_{read}_b128 v[8:11], v0\nds_add_u32 v0, v1"
    counts = counted(arch, lines, n=1, lds=4096, v0=np.arange(LANES[arch], dtype=np.uint32) * 16)
    assert counts.lds.stored == {8: 2 * LANES[arch] * 8}
    assert counts.lds.loaded == {16: 5 * 16} and counts.lds.changed == {4: 5 * 4}
    assert counts.lds.accesses == 2 * LANES[arch] + 10


@pytest.mark.parametrize("arch", ARCHS)
def test_scalar_loads_atomics_and_scratch_stand_apart(arch):
    cells = np.zeros(64, np.uint32)
    memory = Memory()
    base = memory.map(cells, "cells")
    lanes = LANES[arch]
    size = "dwordx4" if arch == "gfx942" else "b128"
    word = "dword" if arch == "gfx942" else "b32"
    add = {"gfx942": "global_atomic_add", "gfx1100": "global_atomic_add_u32", "gfx1201": "global_atomic_add_u32"}[arch]
    lines = f"""s_load_{size} s[12:15], s[4:5], 0x0
global_load_{word} v2, v0, s[4:5]
scratch_store_{word} off, v1, off offset:8
{NARROW[arch]}
{add} v0, v1, s[4:5]
scratch_load_{word} v3, off, off offset:8"""
    at = {"s4": base & 0xFFFFFFFF, "s5": base >> 32}
    counts = counted(arch, lines, n=3, scratch=16, memory=memory, v0=np.arange(lanes, dtype=np.uint32) * 4, **at)
    assert counts.scalar == Traffic(Counter({16: 3 * 16}))
    assert counts.memory == Traffic(Counter({4: 3 * lanes * 4}), changed=Counter({4: 3 * 5 * 4}))
    assert counts.scratch == Traffic(Counter({4: 3 * 5 * 4}), Counter({4: 3 * lanes * 4}))
    assert counts.instructions == {"scalar load": 3, "load": 6, "store": 3, "atomic": 3, "salu": 3, "branch": 3}
    assert counts.idle == pytest.approx(1 - (3 * 2 * lanes + 3 * 2 * 5) / (3 * 4 * lanes))


@pytest.mark.parametrize(
    ("arch", "line", "products"),
    [
        ("gfx942", "v_mfma_f32_32x32x8_f16 v[0:15], v[16:17], v[18:19], v[0:15]", 32 * 32 * 8),
        ("gfx942", "v_mfma_f32_4x4x4_16b_f16 v[0:3], v[16:17], v[18:19], v[0:3]", 16 * 4 * 4 * 4),
        ("gfx1100", "v_wmma_f32_16x16x16_f16 v[0:7], v[8:15], v[16:23], v[0:7]", 16 * 16 * 16),
        ("gfx1201", "v_wmma_i32_16x16x32_iu4 v[0:7], v[8:9], v[10:11], v[0:7]", 16 * 16 * 32),
    ],
)
def test_matrix_instructions_count_their_products_whatever_exec_says(arch, line, products):
    zero = {f"v{i}": 0 for i in range(8, 24)}
    counts = counted(arch, f"{NARROW[arch]}\n{line}\n{line}", n=2, **zero)
    assert counts.multiply_adds == 4 * products and counts.instructions["matrix"] == 4 and not counts.slots


def test_a_quantized_weight_is_read_at_least_once_and_not_as_dense():
    types = (tensor("a16", 1, 4096), tensor("q4_K", 8, 4096), None)
    counts = launched("linear", Case("gemv", types, {"out": "f32"}), "linear_gemv", "gfx1100")
    weights = 8 * 4096
    assert DTYPES["q4_K"].nbytes / DTYPES["q4_K"].block * weights < counts.memory.loaded.total() < 2 * weights
    assert counts.memory.stored.total() == 8 * 4
