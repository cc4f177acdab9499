"""Bytes gathered and scattered by lane: what global memory, LDS and scratch have in common.

Positions are int64[n, lanes], in bytes from the start; values are uint32[dwords, n, lanes], a narrower one
zero-extended. Lanes are taken in order, wave after wave: of two stores to one byte the later lane's stays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from forge.amdgcn.state.atomics import Atomic, update
from forge.amdgcn.trap import MISALIGNED, OUT_OF_BOUNDS, UNINITIALIZED, Fault

Mask = np.ndarray | None  # bool[n, lanes] of the active lanes; None: all are
Tap = Callable[[str, np.ndarray, Mask, int], None]  # is told of each access: LOADED.., address, active lanes, bytes
LOADED, STORED, CHANGED = "loaded", "stored", "changed"
FILLED = {1: 1, 2: 0x0101, 4: 0x01010101}  # the flags of that many written bytes
FLAGS = {size: [FILLED[min(size, 4)]] * max(1, size // 4) for size in (1, 2, 4, 8, 12, 16)}  # in dwords


class Cells:
    """Views of one run of bytes (a multiple of 8 of them, at an address that 8 divides)."""

    def __init__(self, octets: np.ndarray) -> None:
        self.octets, self.halves, self.words = octets, octets.view(np.uint16), octets.view(np.uint32)

    def gather(self, position: np.ndarray, size: int) -> np.ndarray:
        """uint32[max(1, size // 4), *position.shape]: the bytes at each position; one out of range is taken as near."""
        if size < 4:
            flat, shift = (self.octets, 0) if size == 1 else (self.halves, 1)
            return flat.take(position >> shift, mode="clip").astype(np.uint32)[None]
        index = position >> 2
        out = np.empty((size // 4, *position.shape), np.uint32)
        for word in range(size // 4):
            self.words[word:].take(index, out=out[word], mode="clip")
        return out

    def scatter(self, position: np.ndarray, size: int, data: np.ndarray | list[int]) -> None:
        """`data` holds an array of position's shape, or one number, a dword; narrower stores take its low bits."""
        if size < 4:
            flat, shift = (self.octets, 0) if size == 1 else (self.halves, 1)
            flat[position >> shift] = data[0]  # assignment keeps the low bits, as a narrow store does
            return
        index = position >> 2
        for word in range(size // 4):
            self.words[index + word if word else index] = data[word]

    def atomic(
        self, position: np.ndarray, active: Mask, atomic: Atomic, operands: list[np.ndarray], returned: bool
    ) -> np.ndarray | None:
        """Apply `atomic` lane after lane; the old values (0 in inactive lanes) if they are wanted."""
        pick = slice(None) if active is None else active
        values = [np.ascontiguousarray(np.moveaxis(o[:, pick].reshape(len(o), -1), 0, 1)) for o in operands]
        index = position[pick].ravel() >> (2 if atomic.size == 4 else 3)
        flat = self.octets.view(atomic.dtype)
        old = update(flat, index, atomic, [v.view(atomic.dtype)[:, 0] for v in values], returned)
        if old is None:
            return None
        out = np.zeros((atomic.size // 4, *position.shape), np.uint32)
        out[:, pick] = old.view(np.uint32).reshape(-1, atomic.size // 4).T.reshape(out[:, pick].shape)
        return out


def chosen(position: np.ndarray, data: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The active lanes' positions and data, one after another."""
    lanes = np.flatnonzero(active)
    return position.take(lanes), data.reshape(len(data), -1).take(lanes, axis=1)


def settle(address: np.ndarray, active: np.ndarray) -> np.ndarray | None:
    """`address` with the inactive lanes' replaced by that of the first active lane; None where none is active."""
    lane = int(active.argmax())
    if not active.item(lane):
        return None
    return np.where(active, address, address.item(lane))


def first(bad: np.ndarray, active: Mask) -> tuple[int, int]:
    """Row and lane of the first active true element."""
    if active is not None:
        bad = bad & active
    row, lane = divmod(int(bad.argmax()), bad.shape[1])
    return row, lane


def alignment(size: int) -> int:
    """What the address of an access must be a multiple of: its size, or a dword."""
    return min(size & -size, 4)


class Written(Cells):
    """Cells that start unwritten: a read of a byte that nobody wrote is a fault. `name` says whose they are."""

    def __init__(self, size: int, name: str) -> None:
        words = np.full((size + -size % 8) // 4, 0xDEADBEEF, np.uint32)  # visible, should the check ever be passed by
        super().__init__(words.view(np.uint8))
        self.flags = Cells(np.zeros_like(self.octets))
        self.name = name
        self.tap: Tap | None = None

    def check(self, position: np.ndarray, active: Mask, size: int) -> None:
        """Raises Fault(UNINITIALIZED) if an active lane would read a byte that was never stored."""
        flags = self.flags.gather(position, size)
        full = FILLED[min(size, 4)]
        if int(flags.min()) == full:
            return
        missing = (flags != full).any(0)
        missing = missing if active is None else missing & active
        if missing.any():
            row, lane = first(missing, None)
            stored = int(np.ascontiguousarray(flags[:, row, lane]).view(np.uint8).sum())
            what = f"load of {size} bytes of {self.name}, of which {size - stored} were never stored"
            raise Fault(UNINITIALIZED, what, wave=row, lane=lane)


class Window:
    """The part of `Written` cells that each row (wave) sees: addresses 0 .. size, from `base` (int64[n, 1]) on.

    `offset` is what an instruction adds to every address. Rows of faults are those of the address array.
    """

    def __init__(self, cells: Written, base: np.ndarray, size: int, offset: int) -> None:
        self.cells, self.base, self.size, self.offset = cells, base, size, offset

    def tell(self, what: str, address: np.ndarray, active: Mask, size: int) -> None:
        if self.cells.tap is not None:
            self.cells.tap(what, address.astype(np.int64) + self.offset, active, size)

    def positions(self, address: np.ndarray, active: Mask, size: int, align: int) -> np.ndarray | None:
        """Byte positions in the cells of all lanes, checked; inactive ones have the first active one's address."""
        if active is not None:
            settled = settle(address, active)
            if settled is None:
                return None
            address = settled
        if int(address.max()) + self.offset + size > self.size or int(address.min()) + self.offset < 0:
            where = address.astype(np.int64) + self.offset
            row, lane = first((where < 0) | (where + size > self.size), active)
            what = f"{size} bytes at {where[row, lane]:#x} of the {self.size} bytes of {self.cells.name}"
            raise Fault(OUT_OF_BOUNDS, what, wave=row, lane=lane)
        position = self.base + address
        if int(np.bitwise_or.reduce(position, None)) & (align - 1):
            row, lane = first((position & (align - 1)) != 0, active)
            at = int(address[row, lane]) + self.offset
            what = f"{size} bytes at {at:#x} of {self.cells.name}, which {align} does not divide"
            raise Fault(MISALIGNED, what, wave=row, lane=lane)
        return np.asarray(position)

    def load(self, address: np.ndarray, active: Mask, size: int) -> np.ndarray:
        position = self.positions(address, active, size, alignment(size))
        if position is None:
            return np.zeros((max(1, size // 4), *address.shape), np.uint32)
        self.tell(LOADED, address, active, size)
        self.cells.check(position, active, size)
        out = self.cells.gather(position, size)
        return out if active is None else out * active

    def store(self, address: np.ndarray, active: Mask, size: int, data: np.ndarray) -> None:
        position = self.positions(address, active, size, alignment(size))
        if position is None:
            return
        self.tell(STORED, address, active, size)
        if active is not None:
            position, data = chosen(position, data, active)
        self.cells.scatter(position, size, data)
        self.cells.flags.scatter(position, size, FLAGS[size])

    def atomic(
        self, address: np.ndarray, active: Mask, atomic: Atomic, operands: list[np.ndarray], returned: bool
    ) -> np.ndarray | None:
        position = self.positions(address, active, atomic.size, atomic.size)
        if position is None:
            return np.zeros((atomic.size // 4, *address.shape), np.uint32) if returned else None
        self.tell(CHANGED, address, active, atomic.size)
        self.cells.check(position, active, atomic.size)
        return self.cells.atomic(position, active, atomic, operands, returned)
