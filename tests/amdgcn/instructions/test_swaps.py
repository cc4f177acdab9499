"""Instructions with two results that are each other's operands."""

from __future__ import annotations

import numpy as np
import pytest
from amdgcn.assembled import execute, waves

from forge.language import interpreted

pytestmark = [pytest.mark.compile, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

HALF, UPPER = np.uint32(0xFFFF), np.uint32(16)


def swapped(arch: str, line: str, active: int):
    """(v0 and v1 before, after, the active lanes)."""
    state = waves(arch, 2, exec=active)
    before = state.vgpr[:2].copy()
    after = execute(arch, line, state).vgpr[:2]
    return before, after, (active >> np.arange(state.lanes) & 1).astype(bool)


@pytest.mark.parametrize("active", [0xFFFFFFFF, 0x0F0F00F1, 0])
@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "gfx1201"])
def test_registers_change_places_in_the_active_lanes(arch, active):
    before, after, lanes = swapped(arch, "v_swap_b32 v0, v1", active)
    assert np.array_equal(after, np.where(lanes, before[::-1], before))


@pytest.mark.parametrize("active", [0xFFFFFFFF, 0x0F0F00F1])
@pytest.mark.parametrize("arch", ["gfx1100", "gfx1201"])
def test_halves_change_places_and_the_others_stay(arch, active):
    before, after, lanes = swapped(arch, "v_swap_b16 v0.l, v1.h", active)
    first = (before[0] & ~HALF) | (before[1] >> UPPER)
    second = (before[1] & HALF) | (before[0] << UPPER)
    assert np.array_equal(after, np.where(lanes, np.stack([first, second]), before))
