"""Loads to LDS on gfx950 reach all of its 160 KiB (Faults 19).

The kind: the address in M0 is taken whole where LDS is larger than 16 bits reach, for every width and by either way.
"""

from __future__ import annotations

import numpy as np
import pytest
from amdgcn.accessed import mapped, put_address, put_resource, put_scalar, run, state

from forge.amdgcn.code.instruction import CDNA_M0

pytestmark = pytest.mark.compile


@pytest.mark.parametrize("place", [0x100, 0x10000, 0x12340, 0x27000])
@pytest.mark.parametrize("line", [
    "buffer_load_dword v4, s[8:11], 0 offen lds", "buffer_load_dwordx4 v4, s[8:11], 0 offen lds",
    "global_load_lds_dword v[2:3], off", "global_load_lds_dwordx4 v[2:3], off",
])  # fmt: skip
def test_a_load_to_lds_reaches_all_of_it(line, place):
    size = 16 if "x4" in line else 4
    memory, tensor, base = mapped(64 * size)
    w = state("gfx950", 1, memory=memory, lds=160 << 10, full=True)
    lane = np.arange(64)[None, :]
    w.vgpr[4] = lane * size
    put_resource(w, "gfx950", 8, base, len(tensor))
    put_address(w, 2, base + lane * size)
    put_scalar(w, CDNA_M0, place)
    run("gfx950", line, w)
    assert np.array_equal(w.lds.cells.octets[place : place + len(tensor)], tensor)
