"""Which registers an instruction reads and writes, as bits of `Waves.defined`.

The rule: it reads its sources and writes D0 and SDST. The pseudocode adds what it keeps (an accumulating D0, SCC) and
what it writes besides (VCC, SCC, the other register of a swap). The rest is exceptions, where compilers count on a
register's content not to matter: they are `_sources` and `_passes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from forge.amdgcn.code.instruction import EXEC, EXECZ, NULL, VCC, VCCZ, Instruction, Operand
from forge.amdgcn.code.instruction import SCC as SCC_SOURCE
from forge.amdgcn.code.tables import family
from forge.amdgcn.instructions import matrices
from forge.amdgcn.pseudocode import Meaning, meaning
from forge.amdgcn.state.waves import ACC, SCC, VECTOR

_RESULTS = ("D0", "SDST")
_AND_NOT = ("s_andn2_b32", "s_andn2_b64", "s_and_not1_b32", "s_and_not1_b64")
# 64-bit results whose halves may each hold something or nothing: the source that decides it, and the halves it is
# true of. A carry goes from the low half of a sum to the high one, never back.
_PAIRS = {
    "v_mov_b64": ("S0", (0, 1)), "s_mov_b64": ("S0", (0, 1)), "v_add_nc_u64": ("S1", (1,)),
    "v_mad_u64_u32": ("S2", (1,)), "v_mad_i64_i32": ("S2", (1,)), "v_mad_co_u64_u32": ("S2", (1,)),
    "v_mad_co_i64_i32": ("S2", (1,)), "v_lshl_add_u64": ("S2", (1,)),
}  # fmt: skip


# Shifts of 64 bits, and fields of them: the direction, the value, by how much. A half that falls out is not read.
_SHIFTS = {
    "s_lshl_b64": ("left", "S0", "S1"), "s_lshr_b64": ("right", "S0", "S1"), "s_ashr_i64": ("right", "S0", "S1"),
    "s_bfe_i64": ("right", "S0", "S1"), "s_bfe_u64": ("right", "S0", "S1"),
    "v_lshlrev_b64": ("left", "S1", "S0"), "v_lshrrev_b64": ("right", "S1", "S0"),
    "v_ashrrev_i64": ("right", "S1", "S0"),
}  # fmt: skip
# Results that fill a byte or half of a register and leave the rest as it was, whether or not that held something.
_PARTS = re.compile(r"v_cvt_(pk|sr)_(fp8|bf8)_f32|v_cvt_scalef32_\w+")


@dataclass(frozen=True)
class Registers:
    """What an instruction touches. Of each of `passes`, the second hold something if the first do, and nothing if
    they hold nothing: these are among `reads` and `writes`, and not among `needs` and `gives`."""

    reads: int
    writes: int
    passes: tuple[tuple[int, int], ...] = ()

    @property
    def needs(self) -> int:
        """What must hold something."""
        return self.reads & ~_union(source for source, _ in self.passes)

    @property
    def gives(self) -> int:
        """What then holds something, whatever else does."""
        return self.writes & ~_union(result for _, result in self.passes)


def registers(instruction: Instruction, arch: str) -> Registers:
    """What an instruction touches on `arch`; a dual one what its parts do."""
    if instruction.parts:
        parts = [registers(part, arch) for part in instruction.parts]
        return Registers(_union(p.reads for p in parts), _union(p.writes for p in parts))
    rdna = family(arch) != "cdna"
    operands = {**instruction.operands, **matrices.operands(instruction, arch)}
    computes = meaning(family(arch), instruction.name)
    reads = _bits(_sources(instruction, operands, computes), rdna) | _flags_read(instruction.name, computes, rdna)
    writes = _bits(_results(operands, computes), rdna) | _flags_written(operands, computes)
    return Registers(reads, writes, _passes(instruction, rdna))


def _sources(instruction: Instruction, operands: Mapping[str, Operand], computes: Meaning | None) -> Iterator[Operand]:
    """The operands, or parts of them, whose content matters."""
    named = computes.inputs if computes else ()
    for role, operand in operands.items():
        if role in _RESULTS:
            if role == "D0" and "D0" in named and not _PARTS.match(instruction.name):
                yield operand
        elif role == "S0" and computes and "S0" not in named:
            continue  # the operation does not look at it
        elif role == "S0" and instruction.name in _AND_NOT and _is_exec(operands["S1"]):
            continue  # how lane masks are merged: of the first, lanes that are active are cleared
        elif instruction.name.startswith("v_pk_") and operand.bits == 64:
            yield from _chosen(operand, instruction)
        else:
            yield operand


def _results(operands: Mapping[str, Operand], computes: Meaning | None) -> Iterator[Operand]:
    yield from (operands[role] for role in _RESULTS if role in operands)
    if computes and "SDST" not in operands and any(output.name == "D1" for output in computes.outputs):
        yield operands["S0"]  # v_swap writes its source too


def _flags_read(name: str, computes: Meaning | None, rdna: bool) -> int:
    if name.startswith("s_cbranch_vcc"):
        return (1 if rdna else 3) << VCC
    reads_scc = name.startswith("s_cbranch_scc") or (computes and "SCC" in computes.inputs)
    return 1 << SCC if reads_scc else 0


def _flags_written(operands: Mapping[str, Operand], computes: Meaning | None) -> int:
    written = {output.name for output in computes.outputs} if computes else set()
    vcc = 3 << VCC if "VCC" in written and "SDST" not in operands else 0
    return vcc | (1 << SCC if "SCC" in written else 0)


def _passes(instruction: Instruction, rdna: bool) -> tuple[tuple[int, int], ...]:
    """Halves of a pair that compilers leave unwritten on purpose: of an addend or of a copied pair, when only the
    lower half of the result is used."""
    if instruction.name == "v_pk_mov_b32":
        return _moved(instruction, rdna)
    if instruction.name == "v_writelane_b32":
        return _spilled(instruction, rdna)
    if instruction.name in _SHIFTS:
        return _shifted(instruction, rdna)
    if instruction.name not in _PAIRS:
        return ()
    role, halves = _PAIRS[instruction.name]
    source, result = instruction.operands[role], instruction.operands["D0"]
    if source.file == "const" or (source.file == "s" and source.index >= VCCZ):
        return ()
    return tuple((_bits([_part(source, half)], rdna), _bits([_part(result, half)], rdna)) for half in halves)


def _moved(instruction: Instruction, rdna: bool) -> tuple[tuple[int, int], ...]:
    """Each half of the result holds something if the half of the source that op_sel chooses for it does."""
    found = []
    for half in (0, 1):
        source = instruction.operands[f"S{half}"]
        chosen = _part(source, instruction.fields.get("opsel", 0) >> half & 1)
        if source.file != "const":
            found.append((_bits([chosen], rdna), _bits([_part(instruction.operands["D0"], half)], rdna)))
    return tuple(found)


def _spilled(instruction: Instruction, rdna: bool) -> tuple[tuple[int, int], ...]:
    """A scalar goes to a lane of a vector register, where compilers keep those that they have no room for; a tuple of
    which half was written goes as a whole. The lanes are not told apart: the register holds something."""
    source = instruction.operands["S0"]
    return () if source.file == "const" else ((_bits([source], rdna), 0),)


def _shifted(instruction: Instruction, rdna: bool) -> tuple[tuple[int, int], ...]:
    """Of 64 bits that are shifted by a constant, or of which a field is taken, a half may not matter."""
    value, amount = (instruction.operands[role] for role in _SHIFTS[instruction.name][1:])
    if amount.file != "const" or value.file == "const" or (value.file == "s" and value.index >= VCCZ):
        return ()
    first, size = amount.value & 63, 64
    if "bfe" in instruction.name:
        size = min(amount.value >> 16 & 127, 64 - first)
    if _SHIFTS[instruction.name][0] == "left":
        unread = 1 if first >= 32 else None
    else:
        unread = 0 if first >= 32 else 1 if first + size <= 32 else None
    return () if unread is None else ((_bits([_part(value, unread)], rdna), 0),)


def _chosen(operand: Operand, instruction: Instruction) -> Iterator[Operand]:
    """The registers of a pair that op_sel and op_sel_hi choose; v_pk_mov takes one of each pair."""
    number = int(operand.role[1])
    names = ("opsel",) if "mov" in instruction.name else ("opsel", "opsel_hi")
    for half in {instruction.fields.get(name, 0) >> number & 1 for name in names}:
        yield _part(operand, half)


def _part(pair: Operand, half: int) -> Operand:
    return replace(pair, index=pair.index + half, count=1)


def _is_exec(operand: Operand) -> bool:
    return operand.file == "s" and operand.index == EXEC


def _bits(operands: Iterable[Operand], rdna: bool) -> int:
    return _union(_bits_of(operand, rdna) for operand in operands)


def _bits_of(operand: Operand, rdna: bool) -> int:
    run = (1 << operand.count) - 1
    if operand.file == "v":
        return run << (VECTOR + operand.index)
    if operand.file == "a":
        return run << (VECTOR + ACC + operand.index)
    if operand.file == "const" or operand.index == EXECZ or (operand.index == NULL and rdna):
        return 0  # EXEC always holds something
    if operand.index == SCC_SOURCE:
        return 1 << SCC
    if operand.index == VCCZ:
        return 1 << VCC
    return run << operand.index if operand.index < VECTOR else 0


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
