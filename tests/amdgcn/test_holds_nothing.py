"""Registers that hold nothing where nothing depends on it (Faults 19): no read of what was never written.

The kind: halves of a 64-bit operand that the result is not made of (shifts and fields by a constant, v_pk_mov), and
scalars that go to a lane of a vector register as part of a tuple. What the result is made of is still looked at.
"""

from __future__ import annotations

import numpy as np
import pytest
from amdgcn.assembled import assemble, waves

from forge.amdgcn.machine.lockstep import run_text
from forge.amdgcn.state.waves import VECTOR
from forge.errors import EmulationError

pytestmark = pytest.mark.compile

HARMLESS = [  # the line, and the register that holds nothing
    ("s_bfe_i64 s[0:1], s[2:3], 0x100000", 3), ("s_bfe_u64 s[0:1], s[2:3], 0x200000", 3),
    ("s_bfe_i64 s[0:1], s[2:3], 0x80028", 2), ("s_lshl_b64 s[0:1], s[2:3], 32", 3),
    ("s_lshr_b64 s[0:1], s[2:3], 35", 2),
    ("s_ashr_i64 s[0:1], s[2:3], 32", 2), ("v_lshlrev_b64 v[0:1], 40, v[2:3]", VECTOR + 3),
    ("v_pk_mov_b32 v[0:1], v[2:3], v[4:5] op_sel:[0,1]", VECTOR + 3),
    ("v_pk_mov_b32 v[0:1], v[2:3], v[4:5] op_sel:[1,0]", VECTOR + 5), ("v_writelane_b32 v0, s2, 3", 2),
]  # fmt: skip
HARMFUL = [
    ("s_bfe_i64 s[0:1], s[2:3], 0x100000", 2), ("s_bfe_i64 s[0:1], s[2:3], 0x210000", 3),
    ("s_lshl_b64 s[0:1], s[2:3], 31", 3), ("s_lshr_b64 s[0:1], s[2:3], 31", 2), ("s_lshl_b64 s[0:1], s[2:3], s4", 3),
    ("v_lshlrev_b64 v[0:1], 40, v[2:3]", VECTOR + 2),
]  # fmt: skip


def run(line: str, empty: int) -> None:
    state = waves("gfx942")
    state.defined &= ~(1 << empty)
    with np.errstate(all="ignore"):
        run_text("gfx942", assemble("gfx942", line), state)


@pytest.mark.parametrize(("line", "empty"), HARMLESS)
def test_what_does_not_matter_may_hold_nothing(line, empty):
    run(line, empty)


@pytest.mark.parametrize(("line", "empty"), HARMFUL)
def test_what_matters_may_not(line, empty):
    with pytest.raises(EmulationError, match="hold nothing yet"):
        run(line, empty)


@pytest.mark.parametrize("half", [0, 1])
def test_a_moved_half_that_held_nothing_holds_nothing(half):
    line = "v_pk_mov_b32 v[0:1], v[2:3], v[4:5] op_sel:[1,0]\nv_mov_b32 v6, v0"
    if half:
        run(line, VECTOR + 2)
    else:
        with pytest.raises(EmulationError, match="v0 hold nothing yet"):
            run(line, VECTOR + 3)
