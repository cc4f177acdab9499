"""Local data share: one row of bytes a workgroup, and what may go wrong with it.

A byte that no lane of the workgroup wrote cannot be read; an address beyond the workgroup's allocation is a fault, not
a wrap-around. With `check_races`, two waves that touch one dword between two barriers, one of them to write, are a
fault too. Atomics do not race with each other, nor do two writes of the same value: compilers let every wave that has a
copy of a value store it, and each of these waves load it again.
"""

from __future__ import annotations

import numpy as np

from forge.amdgcn.state.atomics import Atomic
from forge.amdgcn.state.cells import Mask, Window, Written, alignment, first
from forge.amdgcn.trap import RACE, Fault

WAVES = 64  # more than a workgroup has
READ, WRITE, UPDATE = "read", "write", "update"
Differs = tuple[np.ndarray, np.ndarray] | None  # bool[dwords, n, lanes]: another value than a write's stood there,
# or stands there now; None: it is no write
RIVALS = {READ: (WRITE, UPDATE), WRITE: (READ, WRITE, UPDATE), UPDATE: (READ, WRITE)}


class Lds:
    """LDS of `groups` workgroups, `size` bytes each."""

    def __init__(self, groups: int, size: int, *, check_races: bool = False) -> None:
        self.groups, self.size = groups, size
        self.stride = size + -size % 16
        self.cells = Written(groups * self.stride, "LDS")
        self.races = Races(groups, self.stride // 4) if check_races else None

    def at(self, group: np.ndarray, wave: np.ndarray, offset: int = 0) -> Window:
        """What waves of the workgroups `group` (int[n]), numbered `wave`, see, `offset` bytes up."""
        base = (group * self.stride + offset)[:, None]
        if self.races is not None:
            return Watched(self.cells, base, self.size, offset, self.races, wave)
        return Window(self.cells, base, self.size, offset)

    def barrier(self, groups: np.ndarray) -> None:
        """All waves of `groups` (indices) passed a barrier: what they touched before races with nothing after."""
        if self.races is not None:
            self.races.forget(groups)


class Races:
    """Which waves read, wrote or updated each dword since its workgroup's last barrier: a bit a wave."""

    def __init__(self, groups: int, words: int) -> None:
        self.groups, self.words = groups, words
        self.touched = {what: np.zeros(groups * words, np.uint64) for what in (READ, WRITE, UPDATE)}

    def forget(self, groups: np.ndarray) -> None:
        for touched in self.touched.values():
            touched.reshape(self.groups, self.words)[groups] = 0

    def touch(
        self, position: np.ndarray, active: Mask, size: int, what: str, wave: np.ndarray, differs: Differs = None
    ) -> None:
        """`what` was done to `size` bytes at `position` (int64[n, lanes]) by the waves `wave` (int[n])."""
        own = np.broadcast_to(np.uint64(1) << (wave % WAVES).astype(np.uint64)[:, None], position.shape)
        for word in range(max(1, size // 4)):
            index = (position >> 2) + word
            wrote = self.touched[WRITE][index]
            for rival in RIVALS[what]:
                others = self.touched[rival][index] & ~own
                if what == READ and rival == WRITE:  # all wrote the same, or it was told: one's own is that too
                    others = np.where(wrote & own, np.uint64(0), others)
                elif differs is not None and rival in (READ, WRITE):  # the same again changes nothing for who wrote it
                    others = np.where(differs[0][word], others, others & ~wrote)
                self._report(others, index, active, what, rival, wave)
            pick = slice(None) if active is None else active
            np.bitwise_or.at(self.touched[what], index[pick], own[pick])
            if differs is not None:
                others = np.where(differs[1][word], self.touched[what][index] & ~own, np.uint64(0))
                self._report(others, index, active, what, what, wave)

    def _report(
        self, others: np.ndarray, index: np.ndarray, active: Mask, what: str, rival: str, wave: np.ndarray
    ) -> None:
        bad = others != 0 if active is None else (others != 0) & active
        if bad.any():
            row, lane = first(bad, None)
            bits = int(others[row, lane])
            other = int(wave[row]) // WAVES * WAVES + bits.bit_length() - 1
            who = f"wave {other}" if bits.bit_count() == 1 else "several waves"
            at = int(index[row, lane]) % self.words * 4
            told = f"{what} of the dword at {at:#x} of LDS after a {rival} by {who} with no barrier between"
            raise Fault(RACE, told, wave=row, lane=lane)


class Watched(Window):
    """A window whose every access is told to `races`."""

    def __init__(
        self, cells: Written, base: np.ndarray, size: int, offset: int, races: Races, wave: np.ndarray
    ) -> None:
        super().__init__(cells, base, size, offset)
        self.races, self.wave = races, wave

    def _touch(self, address: np.ndarray, active: Mask, size: int, what: str) -> None:
        position = self.positions(address, active, size, 1)
        if position is not None:
            self.races.touch(position, active, size, what, self.wave)

    def load(self, address: np.ndarray, active: Mask, size: int) -> np.ndarray:
        out = super().load(address, active, size)
        self._touch(address, active, size, READ)
        return out

    def store(self, address: np.ndarray, active: Mask, size: int, data: np.ndarray) -> None:
        position = self.positions(address, active, size, alignment(size))
        if position is None:
            return
        own = np.asarray(data) & np.uint32((1 << (8 * min(size, 4))) - 1)
        stale = self.cells.gather(position, size) != own
        super().store(address, active, size, data)
        self.races.touch(position, active, size, WRITE, self.wave, (stale, self.cells.gather(position, size) != own))

    def atomic(
        self, address: np.ndarray, active: Mask, atomic: Atomic, operands: list[np.ndarray], returned: bool
    ) -> np.ndarray | None:
        out = super().atomic(address, active, atomic, operands, returned)
        self._touch(address, active, atomic.size, UPDATE)
        return out


def conflicts(address: np.ndarray, active: np.ndarray, size: int, banks: int = 32) -> int:
    """Cycles beyond the least that one LDS access of `size` bytes by each active lane takes. A model, not a timing:
    lanes go in order, as many at a time as fill one row of the banks (at most 32 lanes where there are 32 banks, 64 on
    gfx950's 64); each bank serves one dword a cycle, and lanes that name the same dword share it. `address` is
    [n, lanes] in bytes.
    """
    words = max(1, size // 4)
    together = max(1, banks // words)
    rows, lanes = address.shape
    phases = -(-lanes // together)
    word = (address.astype(np.int64) >> 2)[..., None] + np.arange(words)
    phase = (np.arange(rows)[:, None] * phases + np.arange(lanes) // together)[..., None]
    key = np.unique((np.broadcast_to(phase, word.shape)[active].ravel() << 32) | word[active].ravel())
    count = np.bincount((key >> 32) * banks + (key & 0xFFFFFFFF) % banks, minlength=rows * phases * banks)
    return int(np.maximum(count.reshape(-1, banks).max(1) - 1, 0).sum())
