"""The state of waves that run in lockstep: registers, masks, and the memories they see.

All waves of a `Waves` share one program counter; each has a row of its own in every register. A vector register is
uint32[n, lanes], a scalar one uint32[n, 1], so that NumPy's broadcasting is the hardware's. Masks (EXEC, VCC, a pair
of scalar registers) are uint64[n, 1] with one bit a lane.

Which registers were ever written is kept as the bits of an integer: bit r is the scalar register of encoding r, bit
SCC is the condition code, bit VECTOR + r is vector register r (accumulation registers follow the 256 ordinary ones).
`defined` is what all waves have written; where waves that took different ways have joined, `before` says what else
each of them had.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from forge.amdgcn.code.instruction import EXEC
from forge.amdgcn.state.lds import Lds
from forge.amdgcn.state.memory import Memory, Scratch

VECTOR = 128  # the first vector register among the bits of `defined`
SCC = 640  # and the condition code
SIGNAL = 641  # and whether the wave signalled the barrier that it has yet to wait at (RDNA4)
ACC = 256  # accumulation registers among the vector registers
FP16_OVFL = np.uint32(23)  # a bit of MODE: what overflows fp16 or fp8 becomes the largest number
POISON = 0x7FC0DEAD  # a NaN as a float and a far address as an integer: what unwritten lanes hold


@dataclass(frozen=True)
class Pending:
    """A load or store that may still be under way, and the registers it has yet to fill, as bits of `Waves.defined`."""

    counter: str  # by which waiting instructions know it
    registers: int
    ordered: bool  # done in the order of issue among those of its counter


@dataclass
class Waves:
    """`n` waves of `lanes` lanes. `ids` number them over the launch; `group` says which row of `lds` is theirs."""

    ids: np.ndarray  # int[n]
    group: np.ndarray  # int[n]
    lanes: int
    vgpr: np.ndarray  # uint32[registers, n, lanes]
    sgpr: np.ndarray  # uint32[128, n, 1]
    scc: np.ndarray  # uint32[n, 1]
    memory: Memory
    lds: Lds
    scratch: Scratch
    pc: int = 0
    defined: int = 0
    before: tuple[int, ...] = ()  # for each wave; () if there is nothing to say
    pending: list[Pending] = field(default_factory=list)  # loads not waited for, the oldest first
    mode: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), np.uint32))  # uint32[n, 1]: as s_setreg left it
    batch: int = 0  # of the workgroups that began together, which alone can join
    spins: bool = False  # it made way, having come back to a branch with every register as it was
    active: np.ndarray = field(init=False)  # bool[n, lanes]: EXEC as a mask
    all_active: bool = field(init=False)

    def __post_init__(self) -> None:
        if len(self.mode) != self.n:
            self.mode = np.zeros((self.n, 1), np.uint32)
        self.exec_changed()

    @property
    def n(self) -> int:
        return len(self.ids)

    @property
    def written(self) -> tuple[int, ...]:
        """What each wave has written."""
        return tuple(b | self.defined for b in self.before or (0,) * self.n)

    def lacks(self, needs: int) -> int:
        """Of the registers `needs`, those that some wave has never written. Of a wave without an active lane vector
        registers do not count: compilers let it run on through code that others need."""
        missing = needs & ~self.defined
        if not missing or (self.all_active and not self.before):
            return missing
        scalar = missing & ~((1 << SCC) - (1 << VECTOR))
        lacking = 0
        for had, active in zip(self.before or (0,) * self.n, self.active, strict=True):
            lacking |= (missing if active.any() else scalar) & ~had
        return lacking

    def mask(self, index: int) -> np.ndarray:
        """The lane mask in scalar register `index` (and the next, where a wave has 64 lanes): uint64[n, 1]."""
        low: np.ndarray = self.sgpr[index].astype(np.uint64)
        if self.lanes == 64:
            low |= self.sgpr[index + 1].astype(np.uint64) << np.uint64(32)
        return low

    def write_mask(self, index: int, bits: np.ndarray) -> None:
        self.sgpr[index] = bits.astype(np.uint32)
        if self.lanes == 64:
            self.sgpr[index + 1] = (bits >> np.uint64(32)).astype(np.uint32)
        if index == EXEC:
            self.exec_changed()

    def exec_changed(self) -> None:
        """Recompute what follows from EXEC."""
        self.active = unpack(self.mask(EXEC), self.lanes)
        self.all_active = bool(self.active.all())

    def write_vector(self, index: int, value: np.ndarray) -> None:
        """Write a vector register in the active lanes."""
        if self.all_active:
            self.vgpr[index] = value
        else:
            np.copyto(self.vgpr[index], value, where=self.active)

    def select(self, rows: np.ndarray) -> Waves:
        """A copy with only the waves that `rows` (bool[n]) marks."""
        return Waves(
            self.ids[rows], self.group[rows], self.lanes, self.vgpr[:, rows], self.sgpr[:, rows], self.scc[rows],
            self.memory, self.lds, self.scratch, self.pc, self.defined,
            tuple(b for b, chosen in zip(self.before, rows, strict=False) if chosen), list(self.pending),
            self.mode[rows], self.batch,
        )  # fmt: skip

    def joined(self, other: Waves) -> Waves:
        """These waves and `other`, which stand at the same program counter. Loads of either are outstanding."""
        pending = self.pending + [p for p in other.pending if p not in self.pending]
        written = self.written + other.written
        alike = len({*written}) == 1
        return Waves(
            np.concatenate([self.ids, other.ids]), np.concatenate([self.group, other.group]), self.lanes,
            np.concatenate([self.vgpr, other.vgpr], 1), np.concatenate([self.sgpr, other.sgpr], 1),
            np.concatenate([self.scc, other.scc]), self.memory, self.lds, self.scratch, self.pc,
            written[0] if alike else self.defined & other.defined, () if alike else written, pending,
            np.concatenate([self.mode, other.mode]), self.batch,
        )  # fmt: skip


def unpack(mask: np.ndarray, lanes: int) -> np.ndarray:
    """bool[n, lanes] of a mask uint64[n, 1]."""
    octets = np.ascontiguousarray(mask).view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little")[:, :lanes].view(np.bool_)


def pack(bits: np.ndarray) -> np.ndarray:
    """A mask uint64[n, 1] of bool[n, lanes]."""
    octets = np.zeros((bits.shape[0], 8), np.uint8)
    octets[:, : bits.shape[1] // 8] = np.packbits(bits, axis=1, bitorder="little")
    return octets.view(np.uint64)


@lru_cache
def lane_ids(lanes: int) -> np.ndarray:
    return np.arange(lanes, dtype=np.uint32)[None]
