"""What waves move to and from memory, LDS and scratch: bytes by the width of a lane's access, and LDS conflicts.

A lane counts if it makes the access: it is active, and its address in a buffer's range. The part of an access that
a buffer's end cuts off is not counted, and the rest of it as dwords.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from forge.amdgcn.state.cells import CHANGED, LOADED, Mask
from forge.amdgcn.state.lds import conflicts
from forge.amdgcn.state.waves import Waves


@dataclass(frozen=True)
class Traffic:
    """Bytes loaded, stored and changed by atomics; each by the bytes that one lane moves at a time."""

    loaded: Counter[int] = field(default_factory=Counter)
    stored: Counter[int] = field(default_factory=Counter)
    changed: Counter[int] = field(default_factory=Counter)

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.loaded + other.loaded, self.stored + other.stored, self.changed + other.changed)

    @property
    def bytes(self) -> int:
        return self.loaded.total() + self.stored.total() + self.changed.total()

    @property
    def accesses(self) -> int:
        """How often a lane loaded, stored or changed something."""
        return sum(n // width for moved in (self.loaded, self.stored, self.changed) for width, n in moved.items())

    def add(self, what: str, address: np.ndarray, active: Mask, size: int) -> None:
        """`size` bytes each of the active lanes, at `address` (of any type, [n, lanes])."""
        lanes = address.size if active is None else int(np.count_nonzero(active))
        if lanes:
            to = self.loaded if what == LOADED else self.changed if what == CHANGED else self.stored
            to[size] += lanes * size


class Meter:
    """The traffic of one launch. `banks` are those of LDS, by which its conflicts are counted; `touched` is an address
    of the last access to memory that a lane made."""

    def __init__(self, banks: int) -> None:
        self.banks, self.touched = banks, 0
        self.memory, self.scalar, self.lds, self.scratch = Traffic(), Traffic(), Traffic(), Traffic()
        self.conflicts = 0

    def watch(self, waves: Waves) -> None:
        """Count what these waves do from now on."""
        waves.memory.tap = self.in_memory
        waves.lds.cells.tap = self.in_lds
        waves.scratch.cells.tap = self.scratch.add

    def in_memory(self, what: str, address: np.ndarray, active: Mask, size: int) -> None:
        """A scalar load has one address a wave."""
        (self.scalar if address.shape[-1] == 1 else self.memory).add(what, address, active, size)
        used = address.reshape(-1) if active is None else address[active]
        self.touched = int(used[0]) if used.size else 0

    def in_lds(self, what: str, address: np.ndarray, active: Mask, size: int) -> None:
        self.lds.add(what, address, active, size)
        used = np.ones(address.shape, np.bool_) if active is None else active
        self.conflicts += conflicts(address, used, size, self.banks)
