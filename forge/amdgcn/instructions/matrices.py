"""Matrix instructions between the registers they read and write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from forge.amdgcn.code.instruction import Instruction, Operand
from forge.amdgcn.instructions.operands import constant, row
from forge.amdgcn.matrix import MatrixOp, execute, matrix_op
from forge.amdgcn.state.waves import Waves

_MODIFIERS = ("cbsz", "abid", "blgp", "neg", "neg_hi", "opsel", "clamp")


def operands(instruction: Instruction, arch: str) -> dict[str, Operand]:
    """The operands with as many registers as the instruction moves on this architecture."""
    op = _op(instruction, arch)
    if op is None:
        return {}
    counts = {"S0": op.a_regs, "S1": op.b_regs, "S2": op.c_regs, "D0": op.c_regs}
    return {role: replace(instruction.operands[role], count=count) for role, count in counts.items()}


def bind(instruction: Instruction, arch: str) -> Callable[[Waves], None] | None:
    """What a matrix instruction does, or None if it is none."""
    op = _op(instruction, arch)
    if op is None:
        return None
    sized = operands(instruction, arch)
    a, b, c = (_registers(sized[role]) for role in ("S0", "S1", "S2"))
    first, count = row(sized["D0"]), op.c_regs
    cdna = "cbsz" in instruction.fields
    modifiers: dict[str, Any] = {
        m: instruction.fields.get(m, 0) for m in _MODIFIERS if not (cdna and m in ("neg", "neg_hi", "opsel", "clamp"))
    }
    modifiers["clamp"] = bool(modifiers.get("clamp", 0))

    def run(w: Waves) -> None:
        # EXEC is ignored: a matrix instruction computes with every lane
        w.vgpr[first : first + count] = execute(op, a(w), b(w), c(w), **modifiers)

    return run


def _op(instruction: Instruction, arch: str) -> MatrixOp | None:
    if "mfma" not in instruction.name and "wmma" not in instruction.name:
        return None
    return matrix_op(arch, instruction.name)


def _registers(operand: Operand) -> Callable[[Waves], np.ndarray]:
    if operand.file == "const":
        fixed = constant(operand.value, 32)[None]
        return lambda w: np.broadcast_to(fixed, (operand.count, w.n, w.lanes))
    first, last = row(operand), row(operand) + operand.count
    return lambda w: w.vgpr[first:last]
