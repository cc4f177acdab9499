"""Reading and writing operands: register files, constants, halves, modifiers, DPP and SDWA.

Each function looks at an operand once and returns a closure on `Waves`, so that what an instruction does at every
execution is only the NumPy that it needs. A read gives raw bits: uint32, or uint64 where the operand is wider than a
dword, of a shape that broadcasts to [n, lanes]; a value of 16 bits lies in the low half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from forge.amdgcn.code.instruction import EXEC, EXECZ, NULL, SCC, VCC, VCCZ, Instruction, Operand
from forge.amdgcn.instructions.dpp import lane_source, lanes_of
from forge.amdgcn.state.waves import ACC, Waves

Read = Callable[[Waves], np.ndarray]
Write = Callable[[Waves, np.ndarray], None]

U16, U32, U64 = np.uint32(16), np.uint32(32), np.uint64(32)


def row(operand: Operand) -> int:
    """The operand's first register among `Waves.vgpr`."""
    return operand.index + (ACC if operand.file == "a" else 0)


def constant(value: int, bits: int) -> np.ndarray:
    """A number as the operand of every lane: uint32[1, 1], or uint64 from 33 bits on."""
    return np.array([[value]], np.uint64 if bits > 32 else np.uint32)


def pair(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """uint64 of two dwords."""
    return low.astype(np.uint64) | (high.astype(np.uint64) << U64)


def reader(operand: Operand, *, rdna: bool) -> Read:
    """The operand's bits, without modifiers."""
    wide = operand.bits > 32
    if operand.file == "const":
        fixed = constant(operand.value, operand.bits)
        return lambda w: fixed
    if operand.file == "s":
        return _scalar(operand, wide, rdna)
    index = row(operand)
    if wide:
        return lambda w: pair(w.vgpr[index], w.vgpr[index + 1])
    if operand.half:
        return lambda w: w.vgpr[index] >> U16
    return lambda w: w.vgpr[index]


def _scalar(operand: Operand, wide: bool, rdna: bool) -> Read:
    index = operand.index
    if index == NULL and rdna:
        zero = constant(0, operand.bits)
        return lambda w: zero
    if index == SCC:
        return (lambda w: w.scc.astype(np.uint64)) if wide else lambda w: w.scc
    if index in (VCCZ, EXECZ):
        mask = VCC if index == VCCZ else EXEC
        return lambda w: (w.mask(mask) == 0).astype(np.uint32)
    if operand.type == "m64":
        return lambda w: w.mask(index)
    if wide:
        return lambda w: pair(w.sgpr[index], w.sgpr[index + 1])
    if operand.half:
        return lambda w: w.sgpr[index] >> U16
    return lambda w: w.sgpr[index]


def source(instruction: Instruction, role: str, *, rdna: bool, bare: bool = False) -> Read:
    """A source operand with all that the encoding does to it: DPP or SDWA, then abs, then neg; none of the latter if
    `bare`, for operations that use those fields in another way."""
    operand, fields = instruction.operands[role], instruction.fields
    read = reader(operand, rdna=rdna)
    number = int(role[1]) if role[0] == "S" and role[1:].isdigit() else None
    if number is None or operand.type == "m64":
        return read
    if number == 0 and ("dpp" in fields or "lane_sel_0" in fields):
        read = _permuted(read, fields)
    if f"src{number}_sel" in fields:
        read = _selected(read, fields[f"src{number}_sel"], bool(fields.get(f"src{number}_sext")))
    if bare:
        return read
    if instruction.encoding.startswith("VOP3P"):
        return _packed(instruction, read, operand, number)
    negative = fields.get("neg", 0) >> number & 1 or fields.get(f"src{number}_neg", 0)
    absolute = fields.get("abs", 0) >> number & 1 or fields.get(f"src{number}_abs", 0)
    return _signed(read, operand.bits, bool(absolute), bool(negative))


def _signed(read: Read, bits: int, absolute: bool, negative: bool) -> Read:
    sign = 1 << (bits - 1)
    kind = np.uint64 if bits > 32 else np.uint32
    keep, flip = kind(sign - 1), kind(sign)
    if absolute and negative:
        return lambda w: (read(w) & keep) | flip
    if absolute:
        return lambda w: read(w) & keep
    if negative:
        return lambda w: read(w) ^ flip
    return read


def _permuted(read: Read, fields: Mapping[str, int]) -> Read:
    """The operand as DPP brings it from other lanes; 0 where there is none."""

    def permuted(w: Waves) -> np.ndarray:
        lane, valid = lanes_of(fields, w.lanes)
        value = np.broadcast_to(read(w), (w.n, w.lanes))[:, lane]
        usable = valid if fields.get("fi") else valid & w.active[:, lane]
        return np.where(usable, value, np.uint32(0))

    return permuted


def _selected(read: Read, select: int, signed: bool) -> Read:
    """SDWA: a byte (0 to 3) or word (4, 5) of a dword, extended to 32 bits; 6 is the dword."""
    if select == 6:
        return read
    shift, bits = (np.uint32(8 * select), 8) if select < 4 else (np.uint32(16 * (select - 4)), 16)
    if signed:
        up = np.uint32(32 - bits)
        down = np.int32(32 - bits)
        return lambda w: (((read(w) >> shift) << up).view(np.int32) >> down).view(np.uint32)
    field = np.uint32((1 << bits) - 1)
    return lambda w: read(w) >> shift & field


def _packed(instruction: Instruction, read: Read, operand: Operand, number: int) -> Read:
    """VOP3P: op_sel and op_sel_hi choose which halves the low and the high result see, neg and neg_hi their signs."""
    fields = instruction.fields
    if not operand.type.startswith("pk2"):
        return read
    low, high = fields.get("opsel", 0) >> number & 1, fields.get("opsel_hi", 0) >> number & 1
    signs = [fields.get(n, 0) >> number & 1 if "f" in operand.type else 0 for n in ("neg", "neg_hi")]
    kind, half = (np.uint64, 32) if operand.bits == 64 else (np.uint32, 16)
    flip = kind((signs[0] << (half - 1)) | (signs[1] << (2 * half - 1)))
    if operand.bits == 64 and operand.file == "const":  # both halves see the same constant
        twice = constant((operand.value & 0xFFFFFFFF) * 0x1_0000_0001, 64) ^ flip
        return lambda w: twice
    if operand.bits == 64 and operand.file == "s":
        index = operand.index
        return lambda w: pair(w.sgpr[index + low], w.sgpr[index + high]) ^ flip
    if operand.bits == 64:
        index = row(operand)
        return lambda w: pair(w.vgpr[index + low], w.vgpr[index + high]) ^ flip
    if (low, high) == (0, 1):
        return (lambda w: read(w) ^ flip) if flip else read
    full, up = kind((1 << half) - 1), kind(half)
    down_low, down_high = kind(half * low), kind(half * high)
    return lambda w: ((read(w) >> down_low & full) | ((read(w) >> down_high & full) << up)) ^ flip


def writer(instruction: Instruction, operand: Operand, bits: int, *, rdna: bool) -> Write:
    """Write the result: `bits` (16, 32 or 64) of it, in the active lanes if the register is a vector one."""
    index = operand.index
    if operand.file == "s":
        return _scalar_writer(index, bits, rdna)
    index = row(operand)
    if bits == 64 and "dpp" in instruction.fields:
        low, high = (_enabled(at, 32, instruction.fields, rdna) for at in (index, index + 1))

        def write64_enabled(w: Waves, value: np.ndarray) -> None:
            low(w, value.astype(np.uint32))
            high(w, (value >> U64).astype(np.uint32))

        return write64_enabled
    if bits == 64:

        def write64(w: Waves, value: np.ndarray) -> None:
            w.write_vector(index, value.astype(np.uint32))
            w.write_vector(index + 1, (value >> U64).astype(np.uint32))

        return write64
    fields = instruction.fields
    if "dpp" in fields:
        return _enabled(index, bits, fields, rdna)
    if fields.get("dst_sel", 6) != 6:
        return _placed(index, fields["dst_sel"], fields["dst_unused"])
    if bits == 16:
        return halfword(index, operand.half, keep=rdna or bool(operand.half))
    return lambda w, value: w.write_vector(index, value)


def halfword(index: int, half: int, *, keep: bool) -> Write:
    """Write 16 bits into half a register; the other half is kept (RDNA) or cleared (CDNA)."""
    low, high = np.uint32(0xFFFF), np.uint32(0xFFFF0000)
    if half:
        return lambda w, value: w.write_vector(index, (w.vgpr[index] & low) | (value << U16))
    if keep:
        return lambda w, value: w.write_vector(index, (w.vgpr[index] & high) | (value & low))
    return lambda w, value: w.write_vector(index, value & low)


def _scalar_writer(index: int, bits: int, rdna: bool) -> Write:
    if index == NULL and rdna:
        return lambda w, value: None

    def write(w: Waves, value: np.ndarray) -> None:
        w.sgpr[index] = value.astype(np.uint32) if bits == 64 else value
        if bits == 64:
            w.sgpr[index + 1] = (value >> U64).astype(np.uint32)
        if EXEC - 1 <= index <= EXEC + 1:
            w.exec_changed()

    return write


def enabled(w: Waves, fields: Mapping[str, int]) -> np.ndarray:
    """bool[n, lanes]: the active lanes that a DPP16 instruction leaves on; all of them without one."""
    if "dpp" not in fields:
        return w.active
    lane, valid = lane_source(fields["dpp"], w.lanes)
    lanes = np.arange(w.lanes)
    rows, banks = fields["row_mask"] >> (lanes // 16), fields["bank_mask"] >> (lanes % 16 // 4)
    on: np.ndarray = w.active & (rows & banks & 1).astype(bool)
    if not fields.get("bc"):
        on &= valid if fields.get("fi") else valid & w.active[:, lane]
    return on


def _enabled(index: int, bits: int, fields: Mapping[str, int], rdna: bool) -> Write:
    """DPP: lanes that the masks switch off, or that have no source and no bound_ctrl, keep what they had."""

    def write(w: Waves, value: np.ndarray) -> None:
        on = enabled(w, fields)
        if bits == 16:
            kept = w.vgpr[index] & np.uint32(0xFFFF0000) if rdna else np.uint32(0)
            value = (value & np.uint32(0xFFFF)) | kept
        np.copyto(w.vgpr[index], value, where=on)

    return write


def _placed(index: int, select: int, unused: int) -> Write:
    """SDWA: put the result's low bits into a byte or word; the rest is padded (0), sign-extended (1) or kept (2)."""
    shift, bits = (8 * select, 8) if select < 4 else (16 * (select - 4), 16)
    field = np.uint32((1 << bits) - 1)
    rest = np.uint32(~(((1 << bits) - 1) << shift) & 0xFFFFFFFF)
    above = np.uint32((0xFFFFFFFF << (shift + bits)) & 0xFFFFFFFF)

    def write(w: Waves, value: np.ndarray) -> None:
        placed = (value & field) << np.uint32(shift)
        if unused == 2:
            placed = placed | (w.vgpr[index] & rest)
        elif unused == 1:
            placed = np.where(value >> np.uint32(bits - 1) & np.uint32(1), placed | above, placed)
        w.write_vector(index, placed)

    return write
