"""The memory that a launch may touch: the arguments' tensors at their real addresses, and the lanes' own scratch.

A tensor is mapped without a copy: its address is its data pointer, its extent the bytes from its first element to its
last. Whatever else a lane names is a fault that says how far from which tensor it fell.
"""

from __future__ import annotations

import ctypes
import errno
import os
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.lib.array_utils import byte_bounds

from forge.amdgcn.state.atomics import Atomic
from forge.amdgcn.state.cells import (
    CHANGED,
    LOADED,
    STORED,
    Cells,
    Mask,
    Tap,
    Window,
    Written,
    alignment,
    chosen,
    first,
    settle,
)
from forge.amdgcn.trap import MISALIGNED, OUT_OF_BOUNDS, Fault

NULL_PAGES = 1 << 16  # below which no process has memory


@dataclass(frozen=True)
class Mapping:
    """A buffer that was mapped; holding it keeps its storage alive."""

    address: int
    start: int
    end: int
    name: str
    writable: bool
    buffer: np.ndarray


class Segment:
    """Bytes `start` to `end` of the process, as one or several overlapping tensors hold them."""

    def __init__(self, members: list[Mapping]) -> None:
        self.start, self.end = min(m.start for m in members), max(m.end for m in members)
        self.name = "+".join(dict.fromkeys(m.name for m in members))
        self.writable = any(m.writable for m in members)
        self.stored = False  # to, before
        self.origin = self.start & ~7  # in the same page, so that views of wider types can stand on it
        size = self.end + -self.end % 8 - self.origin
        raw = (ctypes.c_uint8 * size).from_address(self.origin)
        self.cells = Cells(np.ctypeslib.as_array(raw))
        self.low, self.high = self.start - self.origin, self.end - self.origin


class Memory:
    """Segments by address. Addresses are uint64 or int64 of shape [n, lanes]; `active` None means every lane.

    Faults name the row of the address array as the wave.
    """

    def __init__(self) -> None:
        self._mapped: list[Mapping] = []
        self._segments: list[Segment] = []
        self._starts: list[int] = []
        self.tap: Tap | None = None
        self.absent: dict[int, str] = {}  # what would lie from such an address on, and why nothing does
        self.clock = 0  # how often somebody asked for the time

    def map(self, buffer: np.ndarray, name: str, writable: bool = True) -> int:
        """Make `buffer` known; returns its address. A read-only array is never writable."""
        start, end = byte_bounds(buffer) if buffer.size else (buffer.ctypes.data, buffer.ctypes.data)
        address = int(buffer.ctypes.data)
        writable = writable and bool(buffer.flags.writeable)
        self._mapped.append(Mapping(address, int(start), int(end), name, writable, buffer))
        self._arrange()
        return address

    def contents(self) -> list[np.ndarray]:
        """The bytes of all that may be stored to."""
        return [s.cells.octets[s.low : s.high] for s in self._segments if s.writable]

    def _arrange(self) -> None:
        runs: list[list[Mapping]] = []
        end = 0
        for mapping in sorted((m for m in self._mapped if m.end > m.start), key=lambda m: m.start):
            if runs and mapping.start < end:
                runs[-1].append(mapping)
            else:
                runs.append([mapping])
            end = max(end, mapping.end)
        self._segments = [Segment(run) for run in runs]
        self._starts = [s.start for s in self._segments]

    def load(self, address: np.ndarray, active: Mask, size: int) -> np.ndarray:
        """uint32[max(1, size // 4), n, lanes]: `size` bytes a lane, zero-extended; 0 in inactive lanes."""
        if self.tap is not None:
            self.tap(LOADED, address, active, size)
        parts = self._parts(address, active, size, alignment(size), "load")
        if len(parts) == 1:
            segment, position, lanes = parts[0]
            out = segment.cells.gather(position, size)
            return out if lanes is None else out * lanes
        out = np.zeros((max(1, size // 4), *address.shape), np.uint32)
        for segment, position, lanes in parts:
            np.copyto(out, segment.cells.gather(position, size), where=True if lanes is None else lanes)
        return out

    def store(self, address: np.ndarray, active: Mask, size: int, data: np.ndarray) -> None:
        """Store the low `size` bytes of `data` (uint32[dwords, n, lanes]) in the active lanes."""
        if self.tap is not None:
            self.tap(STORED, address, active, size)
        for segment, position, lanes in self._parts(address, active, size, alignment(size), "store"):
            if lanes is None:
                segment.cells.scatter(position, size, data)
            else:
                position, data_here = chosen(position, data, lanes)
                segment.cells.scatter(position, size, data_here)

    def atomic(
        self, address: np.ndarray, active: Mask, atomic: Atomic, operands: list[np.ndarray], returned: bool
    ) -> np.ndarray | None:
        """Apply `atomic` lane after lane; the old values (0 in inactive lanes) if `returned`."""
        if self.tap is not None:
            self.tap(CHANGED, address, active, atomic.size)
        out = np.zeros((atomic.size // 4, *address.shape), np.uint32) if returned else None
        for segment, position, lanes in self._parts(address, active, atomic.size, atomic.size, "atomic"):
            old = segment.cells.atomic(position, lanes, atomic, operands, returned)
            if out is not None and old is not None:
                out += old
        return out

    def _parts(
        self, address: np.ndarray, active: Mask, size: int, align: int, what: str
    ) -> list[tuple[Segment, np.ndarray, np.ndarray | None]]:
        """(segment, byte positions in it, the lanes that use it or None for all), checked for extent and alignment.
        Lanes that do not use a segment have some position within it."""
        if active is not None:
            settled = settle(address, active)
            if settled is None:
                return []
            address = settled
        place = address.view(np.int64)
        at = bisect_right(self._starts, place.item(0)) - 1
        if at >= 0:
            segment = self._segments[at]
            position = place - segment.origin
            if int(position.min()) >= segment.low and int(position.max()) + size <= segment.high:
                self._check(segment, position, active, size, align, what)
                return [(segment, position, active)]
        return self._spread(address, active, size, align, what)

    def _spread(
        self, address: np.ndarray, active: Mask, size: int, align: int, what: str
    ) -> list[tuple[Segment, np.ndarray, np.ndarray | None]]:
        """`_parts` where lanes use several segments, or one of them none."""
        wide = address.view(np.uint64)
        ends = np.array([0, *(s.end for s in self._segments)], np.uint64)
        index = np.searchsorted(np.array(self._starts, np.uint64), wide, side="right")
        end = ends[index]
        outside = (end < wide) | (end - wide < size)
        if outside.any():
            row, lane = first(outside, active)
            raise Fault(OUT_OF_BOUNDS, self._missed(int(wide[row, lane]), size, what), wave=row, lane=lane)
        parts: list[tuple[Segment, np.ndarray, np.ndarray | None]] = []
        for at in np.unique(index):
            segment = self._segments[int(at) - 1]
            lanes = index == at if active is None else (index == at) & active
            position = np.where(lanes, wide.view(np.int64) - segment.origin, 0)
            self._check(segment, position, lanes, size, align, what)
            parts.append((segment, position, lanes))
        return parts

    def _check(self, segment: Segment, position: np.ndarray, active: Mask, size: int, align: int, what: str) -> None:
        if int(np.bitwise_or.reduce(position, None)) & (align - 1):
            row, lane = first((position & (align - 1)) != 0, active)
            at = int(position[row, lane]) + segment.origin
            told = f"{what} of {size} bytes at {at:#x} in {segment.name}, which {align} does not divide"
            raise Fault(MISALIGNED, told, wave=row, lane=lane)
        if what == "load" or segment.stored:
            return
        place = position if active is None else position[active]
        if not (segment.writable and _takes_stores(segment.origin + int(place.flat[0]))):
            raise Fault(OUT_OF_BOUNDS, f"{what} to {segment.name}, which is only to be read")
        segment.stored = True

    def _missed(self, address: int, size: int, what: str) -> str:
        told = f"{what} of {size} bytes at {address:#x}"
        for start, why in self.absent.items():
            if start <= address < start + NULL_PAGES:
                return f"{told}: {why}"
        if address < NULL_PAGES:
            return f"{told}: a null pointer, as of an argument that is None or has no elements"
        if not self._segments:
            return f"{told}: nothing is mapped"

        def distance(segment: Segment) -> int:
            return max(segment.start - address, address + size - segment.end)

        near = min(self._segments, key=distance)
        away = f"{near.start - address} bytes before" if address < near.start else f"{address - near.end} bytes after"
        if near.start <= address < near.end:
            away = f"{address + size - near.end} bytes across the end of"
        return f"{told}: {away} {near.name} ({near.end - near.start} bytes from {near.start:#x})"


def _takes_stores(address: int) -> bool:
    """Whether the page of a byte that is about to be stored may be written: a file mapped to be read may not, which
    torch does not tell. The system is asked to put the byte there again; it refuses where a store would end the
    process."""
    cell = (ctypes.c_uint8 * 1).from_address(address)
    back, front = os.pipe()
    try:
        os.write(front, bytes(cell))
        return os.readv(back, [cell]) == 1
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
        return False
    finally:
        os.close(back)
        os.close(front)


class Scratch:
    """Private memory: `size` bytes of each lane of each wave. A byte never stored cannot be loaded. Any `waves`
    consecutive wave ids have bytes of their own.

    gfx90a spills through a swizzled buffer resource that adds the lane's number: RESOURCE is that, with no base, and
    the buffer instructions know it by this.
    """

    RESOURCE = (0, 1 << 31, 0xFFFFFFFF, 1 << 23)

    def __init__(self, waves: int, lanes: int, size: int) -> None:
        self.waves, self.lanes, self.size = waves, lanes, size
        self.stride = size + -size % 16
        self.cells = Written(waves * lanes * self.stride, "scratch")

    def at(self, wave: np.ndarray, offset: int = 0) -> Window:
        """What the lanes of waves `wave` (int[n]) see, `offset` bytes up."""
        lane = (wave % self.waves)[:, None].astype(np.int64) * self.lanes + np.arange(self.lanes)
        return Window(self.cells, lane * self.stride + offset, self.size, offset)
