"""Branches, loops, barriers, waits and hints in small programs: waves part, meet again, and none is lost."""

from __future__ import annotations

import numpy as np
import pytest
from amdgcn.assembled import LANES, execute, waves

pytestmark = pytest.mark.compile

N = 6
WAVE64 = "gfx942"

SKIP = "s_mov_b32 s3, 9\nL:\ns_add{} s3, s3, 1"  # what a branch to L skips makes 10 of the 1
ABOVE_3 = "v_mov_b32 v1, s2\nv_cmp_lt_u32 vcc{lo}, 3, v1\ns_mov_b{w} exec{lo}, vcc{lo}"
RESTORE = "\ns_mov_b{w} exec{lo}, -1"
NESTED = """s_bitcmp0_b32 s2, 0
s_cbranch_scc1 A
s_bitcmp0_b32 s2, 1
s_cbranch_scc1 B
s_mov_b32 s3, 3
s_branch L
B:
s_mov_b32 s3, 2
s_branch L
A:
s_mov_b32 s3, 1
L:
s_mul_i32 s3, s3, 10"""

# (architectures, what every wave runs with its number in s2, the s3 that wave w then has)
BRANCHES = {
    "s_branch": (LANES, f"s_branch L\n{SKIP}", lambda w: 1),
    "s_cbranch_scc0": (LANES, f"s_cmp_lg_u32 s2, 3\ns_cbranch_scc0 L\n{SKIP}", lambda w: 1 if w == 3 else 10),
    "s_cbranch_scc1": (LANES, f"s_cmp_lt_i32 s2, 2\ns_cbranch_scc1 L\n{SKIP}", lambda w: 1 if w < 2 else 10),
    "s_cbranch_vccnz": (
        LANES,
        f"s_and_b32 vcc_lo, s2, 1\ns_mov_b32 vcc_hi, 0\ns_cbranch_vccnz L\n{SKIP}",
        lambda w: 1 if w & 1 else 10,
    ),
    "s_cbranch_vccz": (
        LANES,
        f"s_and_b32 vcc_lo, s2, 1\ns_mov_b32 vcc_hi, 0\ns_cbranch_vccz L\n{SKIP}",
        lambda w: 10 if w & 1 else 1,
    ),
    "s_cbranch_execz": (LANES, f"{ABOVE_3}\ns_cbranch_execz L\n{SKIP}{RESTORE}", lambda w: 10 if w > 3 else 1),
    "s_cbranch_execnz": ((WAVE64,), f"{ABOVE_3}\ns_cbranch_execnz L\n{SKIP}{RESTORE}", lambda w: 1 if w > 3 else 10),
    "loop": (
        LANES,
        "L:\ns_add{} s3, s3, s2\ns_add{} s4, s4, 1\ns_cmp_lt_i32 s4, s2\ns_cbranch_scc1 L",
        lambda w: w * max(1, w),
    ),
    "nested": (LANES, NESTED, lambda w: (10, 20, 10, 30)[w % 4]),
}

DELAY = "s_delay_alu instid0(VALU_DEP_2)"
HINTS = {
    "gfx942": ["s_nop 0", "s_nop 4", "s_waitcnt lgkmcnt(0)", "s_waitcnt vmcnt(3) lgkmcnt(1)", "s_barrier"],
    "gfx1100": [
        "s_nop 0",
        "s_waitcnt lgkmcnt(0)",
        "s_waitcnt vmcnt(0)",
        "s_waitcnt_vscnt null, 0x0",
        "s_waitcnt_depctr depctr_va_vdst(0)",
        "s_clause 0x1",
        DELAY,
        f"{DELAY} | instskip(NEXT) | instid1(VALU_DEP_2)",
        "s_set_inst_prefetch_distance 0x1",
        "s_barrier",
        "buffer_gl0_inv",
        "s_sendmsg sendmsg(MSG_DEALLOC_VGPRS)",
    ],
    "gfx1201": [
        "s_nop 0",
        "s_wait_loadcnt 0x0",
        "s_wait_storecnt 0x0",
        "s_wait_dscnt 0x0",
        "s_wait_kmcnt 0x0",
        "s_wait_loadcnt_dscnt 0x0",
        "s_wait_storecnt_dscnt 0x0",
        "s_wait_alu depctr_sa_sdst(0)",
        "s_clause 0x1",
        f"{DELAY} | instskip(NEXT) | instid1(VALU_DEP_2)",
        "s_barrier_signal -1\ns_barrier_wait -1",
        "global_inv scope:SCOPE_SE",
        "s_sendmsg sendmsg(MSG_DEALLOC_VGPRS)",
    ],
}


def cases(table):
    """(architecture, line) with ids."""
    return [pytest.param(a, x, id=f"{a}-{x.split()[0]}-{i}") for a in LANES for i, x in enumerate(table[a])]


def spelled(arch: str, text: str) -> str:
    add = "_co_i32" if arch == "gfx1201" else "_i32"
    return (
        text.replace("{}", add)
        .replace("{lo}", "" if arch == WAVE64 else "_lo")
        .replace("{w}", "64" if arch == WAVE64 else "32")
    )


@pytest.mark.parametrize(
    ("arch", "name"), [pytest.param(a, n, id=f"{a}-{n}") for n, (on, _, _) in BRANCHES.items() for a in on]
)
def test_each_wave_goes_its_way(arch, name):
    """Waves in lockstep take different ways by their scalars; what they ran shows in s3."""
    _, text, want = BRANCHES[name]
    state = waves(arch, N)
    state.sgpr[2] = np.arange(N)[:, None]
    state.sgpr[3] = state.sgpr[4] = 0
    done = execute(arch, spelled(arch, text), state)
    assert dict(zip(done.ids.tolist(), done.sgpr[3][:, 0].tolist(), strict=True)) == {w: want(w) for w in range(N)}


@pytest.mark.parametrize(("arch", "line"), cases(HINTS))
def test_changes_nothing(arch, line):
    """Waits, hints and a barrier that all waves reach leave every register as it was."""
    state = waves(arch, 2, exec=np.array([0x123, -1], object))
    before = state.vgpr.copy(), state.sgpr.copy(), state.scc.copy()
    done = execute(arch, line, state)
    for a, b in zip(before, (done.vgpr, done.sgpr, done.scc), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("arch", LANES)
def test_a_barrier_orders_two_waves_of_a_group(arch):
    """Each wave writes to LDS and reads what the other wrote, which the odd one does further on and then turns back."""
    write, read = ("ds_write_b32", "ds_read_b32") if arch == WAVE64 else ("ds_store_b32", "ds_load_b32")
    barrier = "s_barrier_signal -1\ns_barrier_wait -1" if arch == "gfx1201" else "s_barrier"
    wait = "s_wait_dscnt 0x0" if arch == "gfx1201" else "s_waitcnt lgkmcnt(0)"
    store = f"{write} v1, v2\n{wait}\n"
    text = f"""s_cmp_eq_u32 s2, 0
s_cbranch_scc0 FAR
{store}BACK:
{barrier}
{read} v4, v3
{wait}
s_endpgm
FAR:
{store}s_branch BACK"""
    state = waves(arch, 4, lds=64, groups=2)
    state.sgpr[2] = np.arange(4)[:, None] & 1
    state.vgpr[1] = 4 * (np.arange(4)[:, None] & 1)
    state.vgpr[2] = 100 + np.arange(4)[:, None]
    state.vgpr[3] = 4 - state.vgpr[1]
    done = execute(arch, text, state)
    seen = dict(zip(done.ids.tolist(), done.vgpr[4].tolist(), strict=True))
    assert seen == {w: [100 + (w ^ 1)] * LANES[arch] for w in range(4)}


def covered() -> set[tuple[str, str]]:
    """(architecture, mnemonic) of everything above; every program ends in s_endpgm."""
    found = {(a, n) for n, (on, _, _) in BRANCHES.items() for a in on}
    found |= {(a, part.split()[0]) for a in LANES for line in HINTS[a] for part in line.splitlines()}
    return found | {(a, "s_endpgm") for a in LANES}
