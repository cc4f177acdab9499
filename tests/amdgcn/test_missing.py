"""The list of what has no emulation: each entry has its reason, each reason an entry, and what is listed is refused."""

from __future__ import annotations

import re

import pytest

from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.code.tables import FAMILIES
from forge.amdgcn.machine.program import step
from forge.amdgcn.missing import REASONS, missing, mnemonics
from forge.errors import EmulationError, UnsupportedError

pytestmark = pytest.mark.cpu

ONE_OF_EACH = {"cdna": "gfx942", "rdna3": "gfx1100", "rdna4": "gfx1201"}


def test_every_entry_has_a_reason_and_every_reason_an_entry():
    found = {name: why for arch in ONE_OF_EACH.values() for name, why in missing(arch).items()}
    assert "not modelled" not in found.values()
    idle = [pattern for pattern in REASONS if not any(re.fullmatch(pattern, name) for name in found)]
    assert not idle


@pytest.mark.parametrize("arch", FAMILIES)
def test_what_is_listed_is_refused_and_the_rest_is_the_most(arch):
    listed, known = missing(arch), {*mnemonics(FAMILIES[arch])}
    assert listed.keys() < known and len(listed) < len(known) / 4
    for name in listed:
        with pytest.raises(EmulationError, match=r"no emulation|modelled|pseudocode|operands of another kind"):
            step(Instruction(0, 4, name, "", {}, {}), arch, 0)


NEEDED = (
    r"v_(add|mul|fma|exp|rcp|sqrt)_f32",
    r"s_(add|mul|and|cmp)_\w+",
    r"s_cbranch_(scc|vcc|exec)\w+",
    r"(global|buffer)_(load|store)_(dword|b32|b64|u8|ubyte)\w*",
    r"(global|buffer)_atomic_add(_\w+)?",
    r"ds_(read|write|load|store)_b\d+",
    r"v_(mfma|wmma)_f32_\d+x\d+x\d+_f16",
    r"v_perm\w+",
    r"ds_(b?permute|swizzle)_b32",
    r"s_barrier(_wait|_signal)?",
)


@pytest.mark.parametrize(("kind", "arch"), ONE_OF_EACH.items())
def test_what_kernels_cannot_do_without_is_not_listed(kind, arch):
    listed = missing(arch)
    for pattern in NEEDED:
        present = {name for name in mnemonics(kind) if re.fullmatch(pattern, name)}
        assert present and not listed.keys() & present, pattern


def test_another_architecture_has_no_list():
    with pytest.raises(UnsupportedError, match="no emulator of gfx1030"):
        missing("gfx1030")
