"""Waves that wait for others in a loop: when one has to make way, and when nobody will ever end it.

A wave that comes back to a branch with every register as it was will go round for ever, unless somebody else changes
what it reads. Such a wave makes way at once; one that merely goes round often makes way from time to time, since it
may count its rounds while it waits. If all that are left go round so, and registers and memory are again what they
were when all did before, the launch will never end.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from forge.amdgcn.state.waves import Waves

FIRST_LOOK = 8  # backward branches before registers are first compared
TURN = 64  # backward branches after which a wave makes way whatever it does, if there are others


@dataclass
class Rounds:
    """How often the waves of one `Waves` went back since they last made way, and what they held at some time."""

    count: int = 0
    look: int = FIRST_LOOK
    pc: int = -1
    held: tuple[np.ndarray, ...] = ()
    same: bool = False  # they came back as they had been

    def makes_way(self, w: Waves, turn: int) -> bool:
        """Count a backward branch to where `w` stands; whether others are to run, after `turn` rounds at the latest."""
        self.count += 1
        if self.held and self.pc == w.pc:
            self.same = all(np.array_equal(a, b) for a, b in zip(self.held, _registers(w), strict=True))
            self.held = ()
            if self.same:
                return True
        if self.count >= self.look:
            self.look *= 2
            self.pc, self.held = w.pc, tuple(r.copy() for r in _registers(w))
        return self.count >= turn


def _registers(w: Waves) -> tuple[np.ndarray, ...]:
    """The scalars come first: most loops that get on count in one."""
    return w.scc, w.sgpr, w.vgpr


def fingerprint(waves: Iterable[Waves]) -> int:
    """A checksum of these waves' registers, and of all the memory that they can store to."""
    told = 0
    seen: set[int] = set()
    for w in sorted(waves, key=lambda w: w.ids.tolist()):
        for held in (*_registers(w), *w.memory.contents(), w.lds.cells.octets, w.scratch.cells.octets):
            if held.size and held.ctypes.data not in seen:
                seen.add(held.ctypes.data)
                told = zlib.crc32(np.ascontiguousarray(held).tobytes(), told)
    return told
