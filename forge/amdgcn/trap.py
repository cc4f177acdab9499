"""What the parts of the machine raise when code does what no device may be relied on to do.

A part knows what is wrong and not where; the machine catches the `Fault`, adds the program counter, the instruction
and the source line, and raises `forge.errors.EmulationError`.
"""

from __future__ import annotations

OUT_OF_BOUNDS = "access out of bounds"
UNINITIALIZED = "read of what was never written"
MISALIGNED = "misaligned access"
UNKNOWN = "unknown instruction"
BARRIER = "barrier not reached by all waves"
LIMIT = "instruction limit"
SPIN = "a spin that nobody will end"
WAIT = "use of a register whose load is outstanding"
RACE = "LDS race"


class Fault(Exception):
    """`kind` is one of this module's names; `wave` and `lane` are the first at fault, where that is known."""

    def __init__(self, kind: str, what: str, *, wave: int | None = None, lane: int | None = None) -> None:
        self.kind, self.what, self.wave, self.lane = kind, what, wave, lane
        super().__init__(f"{kind}: {what}")
