"""Arithmetic instructions: AMD's pseudocode between operands that are read and results that are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from forge.amdgcn.code.constants import INLINE_FLOATS, inline_float
from forge.amdgcn.code.instruction import EXEC, NULL, VCC, Instruction, Operand
from forge.amdgcn.code.tables import family
from forge.amdgcn.instructions.operands import Read, Write, constant, enabled, halfword, reader, row, source, writer
from forge.amdgcn.numbers.arithmetic import fma
from forge.amdgcn.pseudocode import Meaning, Output, meaning
from forge.amdgcn.state.waves import FP16_OVFL, Waves, lane_ids, pack

Execute = Callable[[Waves], Any]
Compute = Callable[[Waves], tuple[np.ndarray, ...]]

_FIELDS = {"OPSEL": "opsel", "OPSEL_HI": "opsel_hi", "NEG": "neg", "NEG_HI": "neg_hi"}
TRUTH_TABLE = "TTBL"  # of v_bitop3: spread over the fields of modifiers that it has no other use for
FLOATS: dict[int, tuple[Any, Any]] = {
    16: (np.float16, np.uint16),
    32: (np.float32, np.uint32),
    64: (np.float64, np.uint64),
}  # by bits: the number, and its bits as an integer


def bind(instruction: Instruction, arch: str) -> Execute | None:
    """What `instruction` does, or None if it is no arithmetic."""
    kind = family(arch)
    rdna = kind != "cdna"
    if instruction.parts:
        return _dual(instruction, kind)
    if "_fma_mix" in instruction.name or "_mad_mix" in instruction.name:
        return _mix(instruction, rdna)
    found = meaning(
        kind, instruction.name, ocp=True if arch == "gfx950" else None, clamp=bool(instruction.fields.get("clamp"))
    )
    if found is None:
        return None
    compute, write = _inputs(instruction, found, rdna), _outputs(instruction, found, rdna)
    halves = _halves(instruction, found)
    if halves:
        compute = _kept_finite(compute, instruction, halves, rdna)
    if len(write) == 1:
        run, (only,) = compute, write
        return lambda w: only(w, run(w)[0])

    swaps = any(output.name == "D1" and not output.per_lane_bit for output in found.outputs)

    def execute(w: Waves) -> None:
        values = compute(w)
        if swaps:  # each value is a view of the register that the other is written to
            values = tuple(value.copy() for value in values)
        for put, value in zip(write, values, strict=True):
            put(w, value)

    return execute


def _halves(instruction: Instruction, found: Meaning) -> int:
    """How many fp16 results an instruction has that may overflow; 0 of one whose infinities come of zeros."""
    if re.search(r"_(rcp|rsq|log|div_fixup)_", instruction.name):
        return 0
    if re.fullmatch(r"v_pk_\w+_f16", instruction.name):
        return 2
    return int(found.outputs[0].float and found.outputs[0].bits == 16 and not instruction.name.endswith("bf16"))


def _kept_finite(compute: Compute, instruction: Instruction, halves: int, rdna: bool) -> Compute:
    """`compute` where MODE.FP16_OVFL keeps fp16 results finite: an infinity of finite sources is the largest number."""
    sources = [(o.bits, source(instruction, r, rdna=rdna)) for r, o in instruction.operands.items() if r[0] == "S"]
    if "D0" in instruction.operands and re.search(r"_fmac?_|_mac_", instruction.name):
        sources.append((16, reader(instruction.operands["D0"], rdna=rdna)))

    def kept(w: Waves) -> tuple[np.ndarray, ...]:
        values = compute(w)
        on = (w.mode >> FP16_OVFL & np.uint32(1)).astype(np.bool_)
        if not on.any():
            return values
        result = values[0].astype(np.uint32)
        for shift in (np.uint32(16 * half) for half in range(halves)):
            infinite = (result >> shift & np.uint32(0x7FFF)) == 0x7C00
            for bits, read in sources:
                given = read(w)
                if bits == 32 and halves == 1:
                    infinite &= (given & np.uint32(0x7F800000)) != 0x7F800000
                else:
                    infinite &= (given >> shift & np.uint32(0x7C00)) != 0x7C00
            result = np.where(infinite & on, result - (np.uint32(1) << shift), result)
        return (result, *values[1:])

    return kept


def _inputs(instruction: Instruction, found: Meaning, rdna: bool) -> Compute:
    own = ("NEG", "NEG_HI", TRUTH_TABLE, *(("OPSEL", "OPSEL_HI") if instruction.encoding == "VOP3P" else ()))
    bare = any(name in own for name in found.inputs)
    reads = [_input(name, instruction, rdna, bare) for name in found.inputs]
    run = found.run
    if len(reads) == 1:
        (a,) = reads
        return lambda w: run(a(w))
    if len(reads) == 2:
        a, b = reads
        return lambda w: run(a(w), b(w))
    if len(reads) == 3:
        a, b, c = reads
        return lambda w: run(a(w), b(w), c(w))
    return lambda w: run(*[read(w) for read in reads])


def _input(name: str, instruction: Instruction, rdna: bool, bare: bool) -> Read:
    """How to read what the pseudocode calls `name`."""
    operands = instruction.operands
    if name in _FIELDS:
        fixed = constant(instruction.fields.get(_FIELDS[name], 0), 32)
        return lambda w: fixed
    if name == TRUTH_TABLE:
        bits = [instruction.fields[f] for f in ("omod", "abs", "neg")]
        table = constant((bits[0] << 6) | (bits[1] << 3) | bits[2], 32)
        return lambda w: table
    if name == "FP16_OVFL":
        return lambda w: w.mode >> FP16_OVFL & np.uint32(1)
    if name == "laneId":
        return lambda w: lane_ids(w.lanes)
    if name == "SCC":
        return lambda w: w.scc
    if name == "EXEC":
        return lambda w: w.mask(EXEC)
    if name == "WAVE32":
        return lambda w: constant(int(w.lanes == 32), 32)
    if name == "VCC":
        index = operands["VCC"].index if "VCC" in operands else VCC
        if "VCC" in operands and operands["VCC"].file == "const":
            return reader(operands["VCC"], rdna=rdna)
        return lambda w: w.mask(index)
    if name in ("D0", "D1"):
        return reader(operands["D0"], rdna=rdna)
    if name in operands:
        return source(instruction, name, rdna=rdna, bare=bare)
    if name in ("S0", "S1") and "SIMM16" in operands:  # SOPK: some pseudocode calls the immediate a source
        return reader(operands["SIMM16"], rdna=rdna)
    raise KeyError(f"{instruction}: the pseudocode reads {name}, which the encoding does not have")


def _outputs(instruction: Instruction, found: Meaning, rdna: bool) -> list[Write]:
    return [_output(output, instruction, rdna) for output in found.outputs]


def _output(output: Output, instruction: Instruction, rdna: bool) -> Write:
    operands = instruction.operands
    if output.name == "SCC":
        return _write_scc
    if output.per_lane_bit:
        if output.name == "EXEC":
            return _mask_writer(EXEC, rdna, instruction.fields)
        target = operands.get("D0") if output.name == "D0" else operands.get("SDST")
        return _mask_writer(target.index if target else VCC, rdna, instruction.fields)
    if output.name == "EXEC":
        return lambda w, value: w.write_mask(EXEC, value.astype(np.uint64))
    if output.name == "VCC":
        return lambda w, value: w.write_mask(VCC, value.astype(np.uint64))
    target = operands["D0"] if output.name == "D0" else operands["S0"]  # D1: v_swap writes its source too
    write = writer(instruction, target, output.bits, rdna=rdna)
    return _modified(write, output, instruction)


def _write_scc(w: Waves, value: np.ndarray) -> None:
    w.scc = np.broadcast_to(value, w.scc.shape).astype(np.uint32)


def _mask_writer(index: int, rdna: bool, fields: Mapping[str, int]) -> Write:
    """A bit of each active lane as a mask; inactive lanes, and those that DPP switches off, get 0."""
    if index == NULL and rdna:
        return lambda w, bits: None
    return lambda w, bits: w.write_mask(index, pack(np.broadcast_to(bits, w.active.shape) & enabled(w, fields)))


def _modified(write: Write, output: Output, instruction: Instruction) -> Write:
    """The output modifiers: omod multiplies a float by 2, 4 or 1/2, clamp keeps it within [0, 1] and NaN becomes 0."""
    omod, clamp = instruction.fields.get("omod", 0), instruction.fields.get("clamp", 0)
    if not output.float or not (omod or clamp):
        return write
    kind, raw = FLOATS[output.bits]
    factor, one, zero = np.array([(1, 2, 4, 0.5)[omod], 1, 0], kind)

    def modified(w: Waves, value: np.ndarray) -> None:
        number = np.ascontiguousarray(value.astype(raw)).view(kind) * factor
        if clamp:
            number = np.where(number > zero, np.minimum(number, one), zero)
        bits = number.view(raw)
        write(w, bits.astype(np.uint32) if output.bits == 16 else bits)

    return modified


def _dual(instruction: Instruction, kind: str) -> Execute:
    """Two operations that both read before either writes."""
    halves = []
    for part in instruction.parts:
        found = meaning(kind, part.name)
        if found is None:
            raise KeyError(f"{instruction}: {part.name} has no meaning")
        halves.append((_inputs(part, found, True), _outputs(part, found, True)))
    (compute_x, write_x), (compute_y, write_y) = halves

    def execute(w: Waves) -> None:
        x, y = [np.array(v) for v in compute_x(w)], [np.array(v) for v in compute_y(w)]
        for put, value in zip((*write_x, *write_y), (*x, *y), strict=True):
            put(w, value)

    return execute


def _mix(instruction: Instruction, rdna: bool) -> Execute:
    """v_fma_mix_f32, mixlo, mixhi: one fma in f32 of operands that are f32, or halves of registers in f16.

    op_sel_hi says which sources are f16, op_sel which half; neg_hi is abs here. Not every family has pseudocode of it.
    """
    fields, operands = instruction.fields, instruction.operands
    reads = [_mixed(operands[f"S{i}"], i, fields, rdna) for i in range(3)]
    index = row(operands["D0"])
    clamp = fields.get("clamp", 0)
    half = instruction.name.endswith("f16")
    put = halfword(index, int("mixhi" in instruction.name), keep=True)

    def execute(w: Waves) -> None:
        a, b, c = (read(w) for read in reads)
        result = fma(a, b, c)
        if clamp:
            result = np.where(result > 0, np.minimum(result, np.float32(1)), np.float32(0))
        if half:
            narrow = result.astype(np.float16)
            over = np.isinf(narrow) & np.isfinite(result) & (w.mode >> FP16_OVFL & np.uint32(1)).astype(np.bool_)
            narrow = np.where(over, np.copysign(np.finfo(np.float16).max, narrow), narrow)
            put(w, narrow.view(np.uint16).astype(np.uint32))
        else:
            w.write_vector(index, result.view(np.uint32))

    return execute


def _mixed(operand: Operand, number: int, fields: Mapping[str, int], rdna: bool) -> Read:
    """A source of a mixed fma as f32."""
    f16 = fields["opsel_hi"] >> number & 1
    if operand.file == "const" and operand.index in INLINE_FLOATS:
        operand = replace(operand, value=inline_float(operand.index, "f16" if f16 else "f32"))
    read = reader(operand, rdna=rdna)
    shift = np.uint32(16 * (fields["opsel"] >> number & 1))
    absolute, negative = fields["neg_hi"] >> number & 1, fields["neg"] >> number & 1

    def mixed(w: Waves) -> np.ndarray:
        bits = read(w)
        value = (bits >> shift).astype(np.uint16).view(np.float16).astype(np.float32) if f16 else bits.view(np.float32)
        if absolute:
            value = np.abs(value)
        return -value if negative else value

    return mixed
