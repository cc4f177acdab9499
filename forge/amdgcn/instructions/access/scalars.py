"""s_load and s_buffer_load: one address a wave, into scalar registers, whatever EXEC says.

The address is SBASE + offset (signed) + SOFFSET (unsigned). Hardware drops the two low bits of a dword's address;
code that relies on it is a fault here. A buffer's dwords out of its range are 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from forge.amdgcn.code.instruction import EXEC, Instruction
from forge.amdgcn.instructions.access.transfer import Run, extended, width
from forge.amdgcn.state.waves import Waves
from forge.amdgcn.trap import UNKNOWN, Fault

FORM = re.compile(r"s_(buffer_)?load_(\w+)")


def bind(instruction: Instruction) -> Run:
    found = FORM.fullmatch(instruction.name)
    if found is None:
        raise Fault(UNKNOWN, f"{instruction.name} is no memory instruction")
    form = width(found[2])
    offset = _offset(instruction)
    base, result = instruction.operands["SBASE"].index, instruction.operands["D0"].index
    words = form.words
    buffer = bool(found[1])

    def load(w: Waves) -> None:
        low, high = w.sgpr[base], w.sgpr[base + 1]
        start = ((high & 0xFFFF if buffer else high).astype(np.int64) << 32) | low
        at = offset(w)
        if buffer:
            stride = (high >> 16 & 0x3FFF).astype(np.int64)
            limit = w.sgpr[base + 2] * np.maximum(stride, 1)
            each = min(4, form.size)
            value = np.concatenate(
                [w.memory.load(start + at + 4 * k, at + 4 * k + each <= limit, each) for k in range(words)]
            )
        else:
            value = w.memory.load(start + at, None, form.size)
        w.sgpr[result : result + words] = extended(value, form)
        if result <= EXEC + 1 and result + words > EXEC:
            w.exec_changed()

    return load


def _offset(instruction: Instruction) -> Callable[[Waves], np.ndarray]:
    """The offset in bytes: int64[n, 1]."""
    fields = instruction.fields
    fixed, register = fields.get("offset", 0), instruction.operands.get("SOFFSET")
    if "imm" in fields and not fields["imm"]:  # the older form, in which the offset's bits name a register
        index = fixed & 0x7F if not fields.get("soffset_en") else (register.index if register is not None else 0)
        return lambda w: w.sgpr[index].astype(np.int64)
    if register is None:
        return lambda w: np.full((w.n, 1), fixed, np.int64)
    if register.file == "const":
        total = fixed + register.value
        return lambda w: np.full((w.n, 1), total, np.int64)
    at = register.index
    return lambda w: w.sgpr[at].astype(np.int64) + fixed
