"""Waves that part and join, barriers, batches, the state a wave starts with, and the count of what ran."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from amdgcn.assembled import ARCHS, assemble, execute, waves
from amdgcn.patched import subject

from forge.amdgcn import bridge, emulate
from forge.amdgcn.code.decode import decode_all
from forge.amdgcn.machine import dispatch
from forge.amdgcn.machine.lockstep import Machine
from forge.amdgcn.machine.program import program
from forge.amdgcn.state.waves import VECTOR
from forge.amdgcn.trap import BARRIER, LIMIT, UNINITIALIZED
from forge.errors import EmulationError
from forge.language import interpreted
from forge.lower.launch import Launch
from forge.lower.offline import compile_launch
from forge.target import TARGETS

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

MEET = {"gfx942": "s_barrier", "gfx1100": "s_barrier", "gfx1201": "s_barrier_signal -1\ns_barrier_wait -1"}
DONE = {"gfx942": "s_waitcnt lgkmcnt(0)", "gfx1100": "s_waitcnt lgkmcnt(0)", "gfx1201": "s_wait_dscnt 0x0"}
STORE = {"gfx942": "ds_write_b32", "gfx1100": "ds_store_b32", "gfx1201": "ds_store_b32"}
LOAD = {"gfx942": "ds_read_b32", "gfx1100": "ds_load_b32", "gfx1201": "ds_load_b32"}


@pytest.fixture(params=ARCHS)
def arch(request):
    return request.param


def numbered(arch, n, **options):
    """`n` waves; s0 is the wave's number."""
    state = waves(arch, n, **options)
    state.sgpr[0] = np.arange(n)[:, None]
    return state


def first_lane(done, register=0):
    """A vector register's lane 0 of each wave, by the wave's number."""
    order = np.argsort(done.ids)
    assert done.ids[order].tolist() == list(range(done.n))
    return done.vgpr[register][order, 0].tolist()


# Parting and joining


class Program:
    """A random nest of branches and loops that each wave goes through in its own way, as assembly and as Python.

    v0 is hashed at every place, so that its end tells the way that was taken; s0's bits choose it.
    """

    def __init__(self, seed):
        self.random, self.lines, self.labels = random.Random(seed), [], 0
        self.body = self.block(3)
        self.emit(self.body, 10)

    def block(self, depth):
        kinds = ("hash", "if", "loop") if depth else ("hash",)
        return [self.statement(self.random.choice(kinds), depth) for _ in range(self.random.randint(1, 3))]

    def statement(self, kind, depth):
        inner = [] if kind == "hash" else self.block(depth - 1)
        return kind, self.random.randrange(28 if kind != "hash" else 64), inner

    def emit(self, body, counter):
        for kind, number, inner in body:
            self.labels += 1
            begin, end = f"b{self.labels}", f"e{self.labels}"
            if kind == "hash":
                self.lines.append(f"v_lshl_add_u32 v0, v0, 1, {number}")
            elif kind == "if":
                self.lines += [f"s_bitcmp1_b32 s0, {number}", f"s_cbranch_scc0 {end}"]
                self.emit(inner, counter)
                self.lines.append(f"{end}:")
            else:  # as many times as two bits of s0 say
                self.lines += [f"s_bfe_u32 s{counter}, s0, {0x20000 | number}", f"{begin}:"]
                self.lines += [f"s_cmp_eq_u32 s{counter}, 0", f"s_cbranch_scc1 {end}"]
                self.emit(inner, counter + 1)
                self.lines += [f"s_sub_u32 s{counter}, s{counter}, 1", f"s_branch {begin}", f"{end}:"]

    def follow(self, s0):
        """(v0, instructions) of a wave, its end included."""
        return self._follow(self.body, s0, 0, 1)

    def _follow(self, body, s0, v0, count):
        for kind, number, inner in body:
            if kind == "hash":
                v0, count = (2 * v0 + number) % 2**32, count + 1
            elif kind == "if":
                count += 2
                if s0 >> number & 1:
                    v0, count = self._follow(inner, s0, v0, count)
            else:
                count += 3
                for _ in range(s0 >> number & 3):
                    v0, count = self._follow(inner, s0, v0, count + 4)
        return v0, count


@pytest.mark.parametrize("seed", range(8))
def test_each_wave_goes_its_own_way(arch, seed):
    nest = Program(seed)
    state = waves(arch, 24)
    ways = np.random.default_rng(seed).integers(0, 1 << 31, 24)
    state.sgpr[0], state.vgpr[0] = ways[:, None], 0
    steps = program(decode_all(assemble(arch, "\n".join(nest.lines)), arch, state.lanes), arch, 0)
    expected = [nest.follow(int(way)) for way in ways]
    assert first_lane(Machine(steps).run(state)) == [v0 for v0, _ in expected]
    assert sum(step.executed for step in steps.values()) == sum(count for _, count in expected)


def test_waves_jump_to_addresses_of_their_own(arch):
    entries = "\n".join(f"v_mov_b32 v0, {10 * i}\ns_branch end" for i in range(4))  # 8 bytes each
    lines = "s_getpc_b64 s[2:3]\nhere: s_lshl_b32 s0, s0, 3\ns_add_u32 s2, s2, s0\ns_addc_u32 s3, s3, 0\n"
    lines += f"s_add_u32 s2, s2, table-here\ns_addc_u32 s3, s3, 0\ns_setpc_b64 s[2:3]\ntable: {entries}\nend:"
    assert first_lane(execute(arch, lines, numbered(arch, 4))) == [0, 10, 20, 30]


def test_the_limit_is_on_instructions_that_run(arch):
    steps = program(decode_all(assemble(arch, "s_nop 0\n" * 9), arch, 64), arch, 0)
    Machine(steps, limit=10).run(waves(arch))
    with pytest.raises(EmulationError) as caught:
        Machine(steps, limit=9).run(waves(arch))
    assert caught.value.kind == LIMIT


# Registers that only some waves wrote

SOME_WRITE = """
s_cmp_lt_u32 s0, 2
s_cbranch_scc0 join
v_mov_b32 v5, 7
join: v_mov_b32 v1, 1
"""


def without_v5(arch):
    state = numbered(arch, 4)
    state.defined &= ~(1 << VECTOR + 5)
    return state


def test_reading_where_a_wave_never_wrote_traps_after_the_join(arch):
    with pytest.raises(EmulationError, match="registers v5 hold nothing yet") as caught:
        execute(arch, SOME_WRITE + "v_mov_b32 v0, v5", without_v5(arch))
    assert caught.value.kind == UNINITIALIZED


def test_waves_that_wrote_may_read_after_they_joined_others(arch):
    lines = SOME_WRITE + "v_mov_b32 v0, 3\ns_cbranch_scc0 over\nv_mov_b32 v0, v5\nover: v_mov_b32 v1, 2"
    assert first_lane(execute(arch, lines, without_v5(arch))) == [7, 7, 3, 3]


def test_what_all_wrote_on_their_own_ways_may_be_read(arch):
    lines = SOME_WRITE + "s_cbranch_scc1 over\nv_mov_b32 v5, 9\nover: v_mov_b32 v0, v5"
    assert first_lane(execute(arch, lines, without_v5(arch))) == [7, 7, 9, 9]


# Barriers

EXCHANGE = """
s_mov_b32 s1, s0
s_cmp_eq_u32 s1, 0
s_cbranch_scc0 wait
go: v_lshlrev_b32 v1, 2, v0
{store} v1, v0
{done}
{meet}
v_xor_b32 v1, 4, v1
{load} v2, v1
{done}
{meet}
{store} v1, v2 offset:64
s_endpgm
wait: s_sub_u32 s1, s1, 1
s_cmp_eq_u32 s1, 0
s_cbranch_scc0 wait
s_branch go
"""


def test_a_barrier_holds_each_wave_until_all_of_its_workgroup_came(arch):
    """Waves that come one by one, each having waited longer, find in LDS what their neighbour left.

    They wait in code that stands after the barrier: what comes first in the code runs first, if it may.
    """
    state = numbered(arch, 8, lds=128, groups=2)
    state.vgpr[0] = (np.arange(8) % 4)[:, None]
    lines = EXCHANGE.format(store=STORE[arch], load=LOAD[arch], done=DONE[arch], meet=MEET[arch])
    assert first_lane(execute(arch, lines, state), 2) == [1, 0, 3, 2, 1, 0, 3, 2]


@pytest.mark.parametrize("way", ["s_endpgm", "{meet}"], ids=["ended", "another"])
def test_waves_that_end_or_wait_elsewhere_break_a_barrier(arch, way):
    lines = f"s_cmp_eq_u32 s0, 3\ns_cbranch_scc1 other\n{MEET[arch]}\ns_endpgm\nother: {way}"
    with pytest.raises(EmulationError, match="3 waves of workgroup 0 wait here") as caught:
        execute(arch, lines.format(meet=MEET[arch]), numbered(arch, 4))
    assert caught.value.kind == BARRIER


def test_workgroups_do_not_wait_for_each_other(arch):
    """The first workgroup goes round the barrier and ends; the second passes it alone."""
    lines = f"s_cmp_lt_u32 s0, 2\ns_cbranch_scc1 over\n{MEET[arch]}\nv_mov_b32 v0, s0\nover:"
    done = execute(arch, lines, numbered(arch, 4, groups=2))
    assert done.ids.tolist() == done.vgpr[0][:, 0].tolist() == [2, 3]


# Launches


def test_one_workgroup_at_a_time_gives_the_same(arch, monkeypatch):
    tile = subject(arch, "linear.linear_tall", "f16 x f16 tile")

    def outcome():
        tile.verdict()
        steps = emulate.load(tile.object.binary, tile.object.assembly, tile.object.name, False)[1]
        return [step.executed for step in steps.values()], [out.clone() for out in tile.outputs]

    together = outcome()
    monkeypatch.setattr(dispatch, "BATCH_LANES", 1)
    alone = outcome()
    assert together[0] == alone[0]
    assert all(torch.equal(a, b) for a, b in zip(together[1], alone[1], strict=True))


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942", "gfx950"])
def test_firmware_that_preloads_no_arguments_gets_the_same(arch, monkeypatch):
    """The code before the preloaded entry loads them into the same registers."""
    softmax = subject(arch, "softmax.softmax_rows", "f32")
    softmax.verdict()

    class WithoutPreload(dispatch.Dispatch):
        def start(self, groups):
            state = super().start(groups)
            first = sum(
                size for name, size in self.code.descriptor.user_sgprs() if name not in ("kernarg_preload", "unused")
            )
            state.defined &= ~((1 << self.code.descriptor.preload_length) - 1 << first)
            state.sgpr[first : first + self.code.descriptor.preload_length] = 0xDEADBEEF
            assert state.pc == self.code.entry + 256
            state.pc = self.code.entry
            return state

    monkeypatch.setattr(emulate, "Dispatch", WithoutPreload)
    softmax.verdict()


@triton.jit
def _copy(x_ptr, n, y_ptr, BLOCK: tl.constexpr):
    """Four bytes of padding lie between two of the arguments."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n), mask=at < n)


@pytest.mark.parametrize("programs", [1, 7, 100])
def test_every_wave_of_the_grid_counts_its_instructions(arch, programs):
    """A kernel without a branch runs each instruction once a wave."""
    x = torch.arange(float(programs * 128 - 5))
    y = torch.zeros_like(x)
    options = {"num_warps": 2, "BLOCK": 128, "enable_fp_fusion": True}
    done = bridge.emulate(Launch(_copy, (programs, 1, 1), (x, len(x), y), options), TARGETS[arch])
    counts = {step.executed for step in done.steps.values() if step.executed}
    assert torch.equal(x, y)
    assert counts == {2 * programs}
    assert done.instructions == sum(step.executed for step in done.steps.values())


@triton.jit
def _turns(y_ptr, BLOCK: tl.constexpr):
    """Program p goes round its loop p times."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    y = tl.zeros([BLOCK], tl.float32)
    for _ in range(tl.program_id(0)):
        y = tl.exp2(y)
    tl.store(y_ptr + at, y)


def test_a_trace_is_what_the_first_wave_ran(arch):
    """Whatever waves that part from it do beside it: the first program goes round no loop."""
    target, options = TARGETS[arch], {"num_warps": 1, "BLOCK": TARGETS[arch].wave, "enable_fp_fusion": True}
    traces = []
    for programs in (1, 4):
        y = torch.zeros(programs * target.wave)
        launch = Launch(_turns, (programs, 1, 1), (y,), options)
        trace = []
        done = bridge.run(compile_launch(launch, target), launch, trace=trace)
        traces.append([ran.instruction.pc for ran in trace])
        assert done.instructions == sum(step.executed for step in done.steps.values())
        assert programs > 1 or len(trace) == done.instructions
        (stored,) = (ran.address for ran in trace if "store" in ran.instruction.name)
        assert y.data_ptr() <= stored < y.data_ptr() + 4 * y.numel()
    assert traces[0] == traces[1] and len(traces[0]) < done.instructions / 4
