"""ds_ instructions: LDS loads, stores and atomics, and the lane crossbar.

The address is ADDR + offset (16 bits). Forms with two addresses scale their 8-bit offsets by the element, and by 64
elements more in the st64 (stride64) spelling.
"""

from __future__ import annotations

import re

from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.instructions.access import crossbar
from forge.amdgcn.instructions.access.transfer import (
    Piece,
    Pieces,
    Run,
    active,
    changing,
    loading,
    storing,
    width,
)
from forge.amdgcn.instructions.operands import row
from forge.amdgcn.state.atomics import named
from forge.amdgcn.state.waves import Waves

PLAIN = re.compile(r"ds_(read|load|write|store)_(.*)")
DOUBLE = re.compile(r"ds_(read|load|write|store)_?(2st64|2addr_stride64|2addr|2)_(b32|b64)")
TRANSPOSED = re.compile(r"ds_read_b(64|96)_tr_b(4|6|8|16)")


def bind(instruction: Instruction, arch: str) -> Run:
    name, operands = instruction.name, instruction.operands
    lookup = crossbar.bind(instruction, arch, offset_of(instruction))
    if lookup is not None:
        return lookup
    found = TRANSPOSED.fullmatch(name)
    if found is not None:
        size = int(found[1]) // 8
        return crossbar.transposed(_single(instruction, size), size, int(found[2]), operands["D0"])
    found = DOUBLE.fullmatch(name)
    if found is not None:
        form = width(found[3])
        pieces = _double(instruction, form.size, form.size * (64 if "64" in found[2] else 1))
        if found[1] in ("read", "load"):
            return loading(pieces, form, operands["D0"], 2 * form.words)
        return storing(pieces, form, [operands["DATA"], operands["DATA2"]])
    found = PLAIN.fullmatch(name)
    if found is not None:
        form = width(found[2])
        pieces = _single(instruction, form.size)
        if found[1] in ("read", "load"):
            return loading(pieces, form, operands["D0"])
        return storing(pieces, form, [operands["DATA"]])
    atomic = named(name.removeprefix("ds_").replace("_rtn", ""))
    roles = ["DATA", "DATA2"][: atomic.operands]
    if "cmpst_" in name:  # the older spelling has the comparison first
        roles.reverse()
    result = operands["D0"] if "_rtn" in name else None
    return changing(_single(instruction, atomic.size), atomic, [(operands[role], 0) for role in roles], result)


def offset_of(instruction: Instruction) -> int:
    """The 16 bits of the one offset, which RDNA has in two fields."""
    fields = instruction.fields
    return fields.get("offset", fields.get("offset0", 0) | (fields.get("offset1", 0) << 8))


def _single(instruction: Instruction, size: int) -> Pieces:
    at, offset = row(instruction.operands["ADDR"]), offset_of(instruction)

    def pieces(w: Waves) -> tuple[Piece, ...]:
        return ((w.lds.at(w.group, w.ids, offset), w.vgpr[at], active(w), size),)

    return pieces


def _double(instruction: Instruction, size: int, scale: int) -> Pieces:
    at = row(instruction.operands["ADDR"])
    first, second = (instruction.fields[name] * scale for name in ("offset0", "offset1"))

    def pieces(w: Waves) -> tuple[Piece, ...]:
        lanes = active(w)
        return (
            (w.lds.at(w.group, w.ids, first), w.vgpr[at], lanes, size),
            (w.lds.at(w.group, w.ids, second), w.vgpr[at], lanes, size),
        )

    return pieces
