"""What a launch did, counted: instructions by kind, bytes by width, LDS conflicts, matrix products, masked lanes.

They are facts about the code, the same on every run. A time does not follow from them: of caches, latencies and how
instructions overlap the emulator knows nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final

from forge.amdgcn.instructions.access import CACHE_CONTROL
from forge.amdgcn.instructions.control import HINTS
from forge.amdgcn.machine.program import Bound
from forge.amdgcn.matrix import matrix_op
from forge.amdgcn.state.traffic import Meter, Traffic
from forge.amdgcn.trap import UNKNOWN
from forge.errors import EmulationError

# The kinds of instructions and their mnemonics; the first that fits counts.
KINDS: Final = {
    "cache": CACHE_CONTROL.pattern,  # write back, invalidate, prefetch
    "barrier": r"s_barrier\w*",
    "wait": r"s_wait\w+",
    "hint": "|".join(sorted(HINTS)),
    "matrix": r"v_s?(mfma|wmma|mfmac|wmmac)_\w+",
    "dual": r"v_\w+::v_\w+",  # VOPD: two operations of the vector ALU in one instruction
    "valu": r"v_\w+",
    "crossbar": r"ds_(b?permute|swizzle)_\w+",  # between lanes, through the hardware of LDS
    "lds": r"ds_\w+",
    "load": r"(global|flat|scratch|buffer|tbuffer)_load_\w+",
    "store": r"(global|flat|scratch|buffer|tbuffer)_store_\w+",
    "atomic": r"(global|flat|buffer)_atomic_\w+",
    "scalar load": r"s_(buffer_|scratch_)?load_\w+",
    "branch": r"s_(c?branch|call|endpgm|[gs]etpc|swappc)\w*",
    "salu": r"s_\w+",
}


@lru_cache(maxsize=4096)
def kind(mnemonic: str) -> str:
    """Which of KINDS an instruction is, by its name without the encoding's suffix."""
    for name, pattern in KINDS.items():
        if re.fullmatch(pattern, mnemonic):
            return name
    raise EmulationError(f"{mnemonic} is of no kind that is counted", kind=UNKNOWN)


@dataclass(frozen=True)
class Counters:
    """Counts of one launch, or by `+` of several.

    `memory` is what vector instructions move, `scalar` what s_load does (bytes a wave). `conflicts` are the cycles by
    the model of `forge.amdgcn.state.lds.conflicts`. `multiply_adds` are those of matrix instructions. `slots` are the
    lanes of the waves that ran a vector ALU instruction, summed over these instructions; `active`, those EXEC left on.
    `memory_slots` are the same of vector loads, stores and atomics: on targets with buffer instructions compilers leave
    EXEC alone, and send a lane's address out of range instead.
    """

    workgroups: int
    waves: int
    instructions: Counter[str]
    memory: Traffic
    scalar: Traffic
    lds: Traffic
    scratch: Traffic
    conflicts: int
    multiply_adds: int
    slots: int
    active: int
    memory_slots: int

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def total(self) -> int:
        """Instructions, summed over waves."""
        return self.instructions.total()

    @property
    def valu(self) -> int:
        """Instructions of the vector ALU: a dual one is one."""
        return self.instructions["valu"] + self.instructions["dual"]

    @property
    def masked(self) -> float:
        """The share of the vector ALU's lanes that were off, 0 to 1."""
        return 1 - self.active / self.slots if self.slots else 0.0

    @property
    def idle(self) -> float:
        """The share of the lanes of vector loads, stores and atomics that made no access, 0 to 1."""
        made = self.memory.accesses + self.scratch.accesses
        return 1 - made / self.memory_slots if self.memory_slots else 0.0

    def json(self) -> dict[str, Any]:
        """All counts as plain data, the kinds that do not occur left out."""
        found: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Traffic):
                value = {w: dict(sorted(getattr(value, w).items())) for w in ("loaded", "stored", "changed")}
            found[each.name] = dict(value) if isinstance(value, Counter) else value
        return found


def banks(arch: str) -> int:
    """Of LDS, each a dword wide. Source: AMD's ISA documents; 64 from CDNA 4 on."""
    return 64 if arch == "gfx950" else 32


def counters(steps: Iterable[Bound], meter: Meter, arch: str, wave: int, workgroups: int, waves: int) -> Counters:
    """The counts of a launch from its steps, as they stand after it, and the meter that watched it."""
    instructions: Counter[str] = Counter()
    multiply_adds = slots = active = memory_slots = 0
    for step in steps:
        if not step.executed:
            continue
        name = step.instruction.name
        what = kind(name)
        instructions[what] += step.executed
        if what == "matrix":
            op = matrix_op(arch, name, lanes=wave)
            multiply_adds += step.executed * (op.flops // 2 if op else 0)
        elif what in ("valu", "dual"):
            slots += step.executed * wave
            active += step.lanes
        elif what in ("load", "store", "atomic"):
            memory_slots += step.executed * wave
    return Counters(
        workgroups, waves, instructions, meter.memory, meter.scalar, meter.lds, meter.scratch, meter.conflicts,
        multiply_adds, slots, active, memory_slots,
    )  # fmt: skip
