"""An instruction with its operands, as every part of the machine reads it, and the numbers by which operands go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# What a scalar operand's code names beside s0 and up. Source: AMD's ISA documents, "Scalar operands".
VCC, EXEC = 106, 126
TTMP7, TTMP8, TTMP9 = 115, 116, 117
NULL, M0 = 124, 125  # of RDNA: reads 0 and drops what is written; M0
CDNA_M0 = 124
VCCZ, EXECZ, SCC = 251, 252, 253  # to be read only: whether the mask is zero, and the condition code


@dataclass(frozen=True)
class Operand:
    """A register, a run of registers or a constant, in a role.

    Roles are the pseudocode's names: S0 S1 S2 for sources, D0 for the result, VCC for a lane mask that is read (carry
    in, condition), SDST for one that is written; and for memory ADDR (vector address or offset), DATA and DATA2
    (what is stored), SADDR, SBASE, SRSRC (buffer resource), SOFFSET.
    """

    role: str
    file: str  # "v" vector, "a" accumulation, "s" scalar (by hardware encoding), "const"
    index: int
    count: int  # dwords
    bits: int  # width of the value by the operand table: 8, 16, 32, 64, 96, ...
    type: str  # by the operand table: "f32", "f16", "i32", "u32", "b32", "m64" (a lane mask), "any" ...
    value: int = 0  # a constant's bits
    half: int = 0  # 1: a 16-bit value that lies in the upper half of its register


@dataclass(frozen=True)
class Instruction:
    """One machine instruction. `name` has no encoding suffix; a dual instruction (VOPD) has its two `parts`."""

    pc: int  # byte offset in the code object's text
    size: int
    name: str
    encoding: str  # "VOP3P", "SOP2", "MUBUF", ... without _LIT, _DPP16, _SDWA
    operands: Mapping[str, Operand]  # by role
    fields: Mapping[str, int]  # every other field: offset, offset0, offen, clamp, omod, opsel, neg, dpp, row_mask ...
    text: str = ""  # the assembler's line
    source: str = ""  # "file.py:123" of the Triton kernel
    parts: tuple[Instruction, ...] = ()

    @property
    def next(self) -> int:
        return self.pc + self.size

    @property
    def jump(self) -> int:
        """Where a branch or call goes: as many dwords as SIMM16 says, from the next instruction."""
        return self.next + 4 * signed(self.operands["SIMM16"].value, 16)

    def __str__(self) -> str:
        return self.text or self.name


def signed(field: int, bits: int) -> int:
    """A field of that many bits as a number in two's complement."""
    sign = 1 << (bits - 1)
    return (field ^ sign) - sign
