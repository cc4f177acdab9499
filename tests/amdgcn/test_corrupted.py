"""Corrupted machine code ends in traps or in wrong numbers, never in another exception or beside a tensor."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from amdgcn.assembled import LANES, assemble
from amdgcn.patched import subject

from forge.amdgcn import emulate as emulator
from forge.amdgcn.code.codeobject import kernels
from forge.amdgcn.code.decode import decode_object, decode_one
from forge.amdgcn.machine.dispatch import Dispatch
from forge.amdgcn.machine.program import step
from forge.amdgcn.state.memory import Memory
from forge.errors import EmulationError, UnsupportedError
from forge.language import interpreted
from forge.verify.memory import GUARD

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


class Patched:
    """A kernel's code with bits changed, run past the comparison with its listing."""

    def __init__(self, arch: str, kernel: str, case: str) -> None:
        self.subject = subject(arch, kernel, case)
        self.code = kernels(self.subject.object.binary)[self.subject.object.name]
        self.found = decode_object(self.code, self.subject.object.assembly)
        self.steps = {pc: step(i, arch, self.code.text_address) for pc, i in self.found.items()}

    def run(self, text: bytes, changed: set[int]) -> None:
        code, object = replace(self.code, text=text), self.subject.object
        steps = {pc: replace(s) for pc, s in self.steps.items()}
        for pc in changed:
            while pc < len(text):
                steps[pc] = step(decode_one(text, pc, code.arch, code.wave), code.arch, code.text_address)
                pc = steps[pc].next
                if pc in self.found:
                    break
        launch = self.subject.launch
        given = launch.leaves()
        memory = Memory()
        arguments = emulator.kernarg(
            code, [(n, t, given[n]) for n, t in object.parameters], launch.grid, object, memory
        )
        memory.map(arguments, "arguments", writable=False)
        lds = max(object.lds, code.lds)
        Dispatch(code, steps, launch.grid, object.threads, lds, memory, arguments, limit=3000).run()


@pytest.mark.parametrize(("arch", "kernel", "case"), [
    ("gfx942", "softmax.softmax_rows", "f32"), ("gfx1100", "softmax.softmax_rows", "f32"),
    ("gfx1201", "linear.linear_gemv", "a8 x q4_0"), ("gfx1100", "linear.linear_tile", "ragged tokens x f16"),
    ("gfx942", "linear.linear_tile", "ragged tokens x f16"), ("gfx90a", "softmax.softmax_rows", "f32"),
])  # fmt: skip
def test_flipped_bits_end_in_errors_of_ours_or_in_wrong_numbers(arch, kernel, case):
    """Never in another exception, nor in a store beside a tensor: results stand between guards of NaN."""
    patched = Patched(arch, kernel, case)
    rng, places, traps = random.Random(arch + kernel), sorted(patched.found), 0
    for _ in range(120):
        text, changed = bytearray(patched.code.text), {rng.choice(places) for _ in range(rng.choice([1, 1, 2, 4]))}
        for pc in changed:
            bit = rng.randrange(8 * patched.found[pc].size)
            text[pc + bit // 8] ^= 1 << bit % 8
        try:
            patched.run(bytes(text), changed)
        except (EmulationError, UnsupportedError):
            traps += 1
    for out in patched.subject.outputs:
        whole = out._base
        assert whole.numel() == out.numel() + 2 * GUARD
        assert whole[:GUARD].isnan().all() and whole[-GUARD:].isnan().all()
    assert traps > 20


BEYOND = {  # (architecture, instruction): what its bits become
    ("gfx1100", "v_fma_f32 v0, v1, v2, v3"): lambda bits: bits & ~(0x1FF << 32) | 223 << 32,  # S0 is nothing
    ("gfx942", "v_readfirstlane_b32 s0, v0"): lambda bits: bits | 128 << 17,  # into scalar register 128
    ("gfx1201", "buffer_load_b32 v0, v1, s[0:3], null offen"): lambda bits: bits | 0x100 << 41,  # a resource in v0
    ("gfx1100", "v_readlane_b32 s0, v1, s2"): lambda bits: bits | 0x100 << 41,  # a lane by a vector register
}


@pytest.mark.parametrize(("arch", "line"), BEYOND)
def test_operands_that_no_encoding_has_trap(arch, line):
    text = assemble(arch, line)
    one = decode_one(text, 0, arch, LANES[arch])
    step(one, arch, 0)
    bits = BEYOND[arch, line](int.from_bytes(text[: one.size], "little"))
    broken = decode_one(bits.to_bytes(one.size, "little"), 0, arch, LANES[arch])
    assert broken.name == one.name
    with pytest.raises(EmulationError, match=f"{one.name}: \\w+ cannot be"):
        step(broken, arch, 0)
