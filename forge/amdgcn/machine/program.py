"""A kernel made ready to run: each instruction decoded, given its meaning, and linked to the registers it touches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from forge.amdgcn.code.instruction import Instruction, Operand
from forge.amdgcn.code.tables import family
from forge.amdgcn.instructions import access, alu, control, lanes, matrices
from forge.amdgcn.instructions.operands import EXECZ, NULL, VCCZ
from forge.amdgcn.instructions.operands import SCC as SCC_SOURCE
from forge.amdgcn.machine.waits import checked
from forge.amdgcn.pseudocode import meaning
from forge.amdgcn.state.waves import ACC, EXEC, SCC, VCC, VECTOR, Waves
from forge.amdgcn.trap import UNKNOWN, Fault
from forge.errors import EmulationError


@dataclass(slots=True)
class Step:
    """An instruction and what it does. `needs` and `gives` are bits of `Waves.defined`; of `passes`, pairs of such
    bits, the second hold something if the first do."""

    instruction: Instruction
    run: Callable[[Waves], Any]
    needs: int
    gives: int
    next: int
    passes: tuple[tuple[int, int], ...] = ()
    executed: int = 0  # times a wave ran it
    lanes: int = 0  # active lanes, summed over those times


def program(instructions: Mapping[int, Instruction], arch: str, base: int, *, waits: bool = False) -> dict[int, Step]:
    """The steps of a kernel by program counter. Raises EmulationError for an instruction without a meaning."""
    return {pc: step(instruction, arch, base, waits=waits) for pc, instruction in instructions.items()}


def step(instruction: Instruction, arch: str, base: int, *, waits: bool = False) -> Step:
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
    except Fault as fault:
        raise EmulationError(fault.what, kind=fault.kind, where=where) from fault
    except KeyError as error:
        raise EmulationError(f"operands of another kind: {error}", kind=UNKNOWN, where=where) from error
    if run is None:
        raise EmulationError(f"{instruction.name} of {arch} has no emulation", kind=UNKNOWN, where=where)
    needs, gives = registers(instruction, arch)
    if waits:
        run = checked(instruction, family(arch), needs, gives, run)
    passes = upper_halves(instruction, arch)
    for lenient, result in passes:
        needs, gives = needs & ~lenient, gives & ~result
    return Step(instruction, run, needs, gives, instruction.next, passes)


def registers(instruction: Instruction, arch: str) -> tuple[int, int]:
    """(registers read, registers written), as bits of `Waves.defined`."""
    if instruction.parts:
        pairs = [registers(part, arch) for part in instruction.parts]
        return pairs[0][0] | pairs[1][0], pairs[0][1] | pairs[1][1]
    rdna = family(arch) != "cdna"
    operands = dict(instruction.operands)
    operands.update(matrices.operands(instruction, arch))
    found = meaning(family(arch), instruction.name)
    results = ("D0", "SDST")
    read = [o for role, o in operands.items() if role not in results]
    if instruction.name.startswith("v_pk_") and any(o.bits == 64 for o in read) and "mov" not in instruction.name:
        read = [half for o in read for half in _halves(o, int(o.role[1]), instruction.fields)]
    needs = _bits(read, rdna)
    gives = _bits((o for role, o in operands.items() if role in results), rdna)
    if instruction.name in ("s_andn2_b64", "s_andn2_b32", "s_and_not1_b64", "s_and_not1_b32") and _is_exec(
        operands["S1"]
    ):
        needs &= ~_bits([operands["S0"]], rdna)  # a lane mask is merged: of the first only inactive lanes remain
    if found is not None:
        if "D0" in found.inputs and "D0" in operands:
            needs |= _bits([operands["D0"]], rdna)
        if "S0" not in found.inputs and "S0" in operands:
            needs &= ~_bits([operands["S0"]], rdna)
        for output in found.outputs:
            if output.name == "VCC" and "SDST" not in operands:
                gives |= 3 << VCC
            if output.name == "SCC":
                gives |= 1 << SCC
            if output.name == "D1" and "SDST" not in operands:
                gives |= _bits([operands["S0"]], rdna)
        if "SCC" in found.inputs:
            needs |= 1 << SCC
    if instruction.name.startswith("s_cbranch_scc"):
        needs |= 1 << SCC
    elif instruction.name.startswith("s_cbranch_vcc"):
        needs |= (1 if rdna else 3) << VCC
    return needs, gives


def _is_exec(operand: Operand) -> bool:
    return operand.file == "s" and operand.index == EXEC


def _halves(operand: Operand, number: int, fields: Mapping[str, int]) -> list[Operand]:
    """The registers of a pair that op_sel and op_sel_hi choose."""
    chosen = {fields.get("opsel", 0) >> number & 1, fields.get("opsel_hi", 0) >> number & 1}
    return [replace(operand, index=operand.index + half, count=1) for half in sorted(chosen)]


_SUMS = ("v_mad_u64_u32", "v_mad_i64_i32", "v_mad_co_u64_u32", "v_mad_co_i64_i32", "v_lshl_add_u64", "v_add_nc_u64")
_COPIES = ("v_mov_b64", "s_mov_b64")


def upper_halves(instruction: Instruction, arch: str) -> tuple[tuple[int, int], ...]:
    """Where compilers read what was never written, on purpose: the upper half of a 64-bit addend or of a copied pair,
    when only the lower half of the result is used. The upper half of the result then holds nothing either."""
    sums, copies = instruction.name in _SUMS, instruction.name in _COPIES
    if not (sums or copies):
        return ()
    rdna = family(arch) != "cdna"
    role = "S0" if copies else "S1" if instruction.name == "v_add_nc_u64" else "S2"
    halves = []
    for half in (1,) if sums else (0, 1):
        pair = [instruction.operands[r] for r in (role, "D0")]
        if pair[0].file == "const" or (pair[0].index >= VCCZ and pair[0].file == "s"):
            return ()
        needs, gives = (_bits([replace(o, index=o.index + half, count=1)], rdna) for o in pair)
        halves.append((needs, gives))
    return tuple(halves)


def _bits(operands: Iterable[Operand], rdna: bool) -> int:
    bits = 0
    for operand in operands:
        if operand.file == "const":
            continue
        if operand.file == "s":
            if operand.index == SCC_SOURCE:
                bits |= 1 << SCC
            elif operand.index == VCCZ:
                bits |= 1 << VCC
            elif operand.index != EXECZ and not (operand.index == NULL and rdna) and operand.index < VECTOR:
                bits |= (1 << operand.count) - 1 << operand.index
        else:
            first = VECTOR + operand.index + (ACC if operand.file == "a" else 0)
            bits |= (1 << operand.count) - 1 << first
    return bits
