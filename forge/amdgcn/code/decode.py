"""Machine code to `Instruction`s, by the tables that tinygrad generates from AMD's ISA documents.

Every decoded mnemonic is held against the assembler's listing: where they differ the code is not run. tinygrad has no
separate tables for gfx90a, some of whose opcodes are other instructions of gfx942: the tables GFX90A_... say which.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from forge.amdgcn.code.codeobject import KernelCode
from forge.amdgcn.code.encodings import fields_of, form_of
from forge.amdgcn.code.instruction import Instruction, Operand
from forge.amdgcn.code.listing import Line, functions, listing
from forge.amdgcn.code.operands import VECTOR, implicit, operand, operands_of
from forge.amdgcn.code.tables import family
from forge.amdgcn.code.variants import decode_raw
from forge.amdgcn.trap import UNKNOWN
from forge.errors import EmulationError

# Matrix instructions of gfx90a whose opcodes are other instructions, or none, in tinygrad's tables of CDNA3 and 4.
# They are decoded as the one of opcode STAND_IN, which has the same fields.
GFX90A_MATRIX = {
    0x54: "v_mfma_i32_32x32x8i8",
    0x55: "v_mfma_i32_16x16x16i8",
    0x63: "v_mfma_f32_32x32x4bf16_1k",
    0x64: "v_mfma_f32_16x16x4bf16_1k",
    0x65: "v_mfma_f32_4x4x4bf16_1k",
    0x66: "v_mfma_f32_32x32x8bf16_1k",
    0x67: "v_mfma_f32_16x16x16bf16_1k",
    0x68: "v_mfma_f32_32x32x2bf16",
    0x69: "v_mfma_f32_16x16x2bf16",
    0x6B: "v_mfma_f32_4x4x2bf16",
    0x6C: "v_mfma_f32_32x32x4bf16",
    0x6D: "v_mfma_f32_16x16x8bf16",
}
STAND_IN = 0x4D
GFX90A_CACHES = {0x29: "buffer_invl2", 0x3E: "buffer_wbinvl1", 0x3F: "buffer_wbinvl1_vol"}  # opcodes of MUBUF likewise
CACHE_STAND_IN = 0x29
# Sums of rounded products, which later CDNA has not, are decoded as the fused ones. By the opcode of VOP2, of VOP3.
GFX90A_VOP2 = {0x16: ("v_mac_f32", 0x3B)}
GFX90A_VOP3 = {0x116: ("v_mac_f32", 0x13B), 0x1C1: ("v_mad_f32", 0x1CB)}
GFX90A_NAMES = {"v_fmamk_f32": "v_madmk_f32", "v_fmaak_f32": "v_madak_f32"}


def decode_object(code: KernelCode, assembly: str) -> dict[int, Instruction]:
    """Every instruction of a kernel and of the functions that it may call, each agreeing with the assembler's text.

    Raises EmulationError where bytes decode to no instruction, or to another one than the assembler wrote.
    """
    found: dict[int, Instruction] = {}
    pc = 0
    for name, alignment in functions(assembly):
        pc += -pc % alignment
        if name == code.name and pc != code.entry:
            what = f"{name} begins at {code.entry:#x}, by the assembler's text at {pc:#x}"
            raise EmulationError(what, kind=UNKNOWN, where=code.name)
        found |= decode(code, listing(assembly, name), pc)
        pc = max(i.next for i in found.values())
    return found


def decode(code: KernelCode, lines: Sequence[Line], begin: int | None = None) -> dict[int, Instruction]:
    """The instructions of one function, the kernel or that at `begin`, each agreeing with a line of its listing."""
    found: dict[int, Instruction] = {}
    pc = code.entry if begin is None else begin
    for line in lines:
        if line.mnemonic.startswith(".p2align"):
            boundary = 1 << int(line.mnemonic.split()[1])
            while pc % boundary and pc < len(code.text):
                padding = decode_one(code.text, pc, code.arch, code.wave)
                if padding.name not in ("s_nop", "s_code_end"):
                    break
                found[pc] = padding
                pc = padding.next
            continue
        instruction = decode_one(code.text, pc, code.arch, code.wave, line)
        found[pc] = instruction
        pc = instruction.next
    return found


def decode_all(text: bytes, arch: str, wave: int) -> dict[int, Instruction]:
    """Every instruction of bare machine code, from its first byte to its last."""
    found: dict[int, Instruction] = {}
    pc = 0
    while pc < len(text):
        found[pc] = decode_one(text, pc, arch, wave)
        pc = found[pc].next
    return found


def decode_one(text: bytes, pc: int, arch: str, wave: int, line: Line | None = None) -> Instruction:
    """The instruction at `pc`. Raises EmulationError if it is none, or not what the listing's `line` says."""
    where = f"{pc:#x}" + (f": {line.text}" if line else "") + (f" ({line.source})" if line and line.source else "")
    data = text[pc : pc + 16].ljust(16, b"\0")
    data, renamed = _gfx90a(data) if arch == "gfx90a" else (data, None)
    try:
        raw = decode_raw(data, family(arch))
    except (ValueError, AssertionError) as error:
        what = f"no {family(arch)} instruction: {text[pc : pc + 8].hex()} ({error})"
        raise EmulationError(what, kind=UNKNOWN, where=where) from error
    if hasattr(raw, "opx"):
        instruction = _dual(raw, pc, arch, wave)
    else:
        form = form_of(raw, renamed or _spelled(plain(raw.op_name.lower()), arch), arch, wave)
        operands, fields = operands_of(raw, form), fields_of(raw, form)
        instruction = Instruction(pc, raw.size(), form.name, form.encoding, operands, fields)
    if line is None:
        return instruction
    if instruction.name != plain(line.mnemonic):
        what = f"decoded as {instruction.name}, which the assembler wrote otherwise"
        raise EmulationError(what, kind=UNKNOWN, where=where)
    return replace(instruction, text=line.text, source=line.source)


def _gfx90a(data: bytes) -> tuple[bytes, str | None]:
    """The bytes to decode in place of `data`, and the name of what they are; no name if the tables are right."""
    word = int.from_bytes(data[:4], "little")
    if word >> 23 == 0x1A7:  # VOP3P, the matrix instructions included
        names, at, stand_in = GFX90A_MATRIX, 16, STAND_IN
    elif word >> 26 == 0x38:  # MUBUF
        names, at, stand_in = GFX90A_CACHES, 18, CACHE_STAND_IN
    elif word >> 31 == 0 and word >> 25 in GFX90A_VOP2:
        known, other = GFX90A_VOP2[word >> 25]
        return (word & ~(0x3F << 25) | other << 25).to_bytes(4, "little") + data[4:], known
    elif word >> 26 == 0x34 and word >> 16 & 0x3FF in GFX90A_VOP3:
        known, other = GFX90A_VOP3[word >> 16 & 0x3FF]
        return (word & ~(0x3FF << 16) | other << 16).to_bytes(4, "little") + data[4:], known
    else:
        return data, None
    name = names.get(word >> at & 0x7F)
    if name is None:
        return data, None
    other = (word & ~(0x7F << at)) | (stand_in << at)
    return other.to_bytes(4, "little") + data[4:], name


def _spelled(name: str, arch: str) -> str:
    """The assembler's name of what tinygrad calls `name`."""
    if family(arch) == "cdna":
        name = name.replace("v_mad_mix", "v_fma_mix")  # the documents keep the name of the first, unfused kind
        if name in ("v_accvgpr_read", "v_accvgpr_write"):
            name += "_b32"
    if arch == "gfx90a":
        name = GFX90A_NAMES.get(name, name)
    if arch == "gfx90a" and "mfma" in name:
        name = re.sub(r"(\d+x\d+x\d+)(_\d+b)?_", r"\1", name)
    return name


def plain(mnemonic: str) -> str:
    """A mnemonic without the assembler's suffix for its encoding."""
    return "::".join(re.sub(r"(_e32|_e64)?(_dpp|_sdwa)?$", "", part) for part in mnemonic.split("::"))


def _dual(raw: Any, pc: int, arch: str, wave: int) -> Instruction:
    """A VOPD instruction: two operations of VOP2 at once, X and Y."""
    parts = []
    for half in ("x", "y"):
        name = getattr(raw, f"op{half}").name.lower()
        form = form_of(raw, name, arch, wave)
        operands = {"D0": Operand("D0", "v", getattr(raw, f"vdst{half}").offset - VECTOR, 1, 32, "b32")}
        number = "f32" if name.endswith("f32") else "b32"
        operands["S0"] = operand(form, "S0", form.bits[f"src{half}0"], 32, number)
        if "mov" not in name:
            operands["S1"] = operand(form, "S1", form.bits[f"vsrc{half}1"] + VECTOR, 32, number)
        operands |= implicit(replace(form, encoding="VOP2"), operands)
        parts.append(Instruction(pc, raw.size(), name, "VOPD", operands, {}))
    name = f"{parts[0].name}::{parts[1].name}"
    return Instruction(pc, raw.size(), name, "VOPD", {}, {}, parts=tuple(parts))
