"""A kernel made ready to run: each instruction decoded, given its meaning, and linked to the registers it touches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.code.tables import family
from forge.amdgcn.instructions import access, alu, control, lanes, matrices
from forge.amdgcn.machine.registers import registers
from forge.amdgcn.machine.waits import checked
from forge.amdgcn.machine.wellformed import require_registers
from forge.amdgcn.state.waves import Waves
from forge.amdgcn.trap import UNKNOWN, Fault
from forge.errors import EmulationError


@dataclass(slots=True)
class Bound:
    """An instruction and what it does. `needs`, `gives` and `passes` are those of `Registers`: bits of
    `Waves.defined`."""

    instruction: Instruction
    run: Callable[[Waves], Any]
    needs: int
    gives: int
    next: int
    passes: tuple[tuple[int, int], ...] = ()
    executed: int = 0  # times a wave ran it
    lanes: int = 0  # active lanes, summed over those times


def program(instructions: Mapping[int, Instruction], arch: str, base: int, *, waits: bool = False) -> dict[int, Bound]:
    """The steps of a kernel by program counter. `base` is the address of its code; with `waits`, registers are looked
    at whose load is outstanding. Raises EmulationError for an instruction without a meaning."""
    return {pc: step(instruction, arch, base, waits=waits) for pc, instruction in instructions.items()}


def step(instruction: Instruction, arch: str, base: int, *, waits: bool = False) -> Bound:
    """Bind one instruction."""
    where = f"{instruction.pc:#x}: {instruction} ({instruction.source})"
    try:
        run = (
            alu.bind(instruction, arch)
            or access.bind(instruction, arch)
            or control.bind(instruction, arch, base)
            or lanes.bind(instruction, arch)
            or matrices.bind(instruction, arch)
        )
        require_registers(instruction, arch)
    except Fault as fault:
        raise EmulationError(fault.what, kind=fault.kind, where=where) from fault
    except KeyError as error:
        raise EmulationError(f"operands of another kind: {error}", kind=UNKNOWN, where=where) from error
    if run is None:
        raise EmulationError(f"{instruction.name} of {arch} has no emulation", kind=UNKNOWN, where=where)
    touched = registers(instruction, arch)
    if waits:
        run = checked(instruction, family(arch), touched, run)
    return Bound(instruction, run, touched.needs, touched.gives, instruction.next, touched.passes)
