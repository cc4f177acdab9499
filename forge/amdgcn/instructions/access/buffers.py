"""buffer_ instructions on raw, structured and swizzled buffers, and scratch through a buffer resource.

A resource is four scalar registers: base (48 bits), stride, number of records, flags. An access is at
base + SOFFSET + (offset from ADDR + immediate) + stride * index. Its range is checked on the sum without the base,
which does not wrap: what ends beyond the last record loads 0 and stores nothing, each dword of a wide access for
itself, an atomic as a whole. In range but outside the mapped tensors is a fault like any other.

Which range counts: a raw buffer's records are bytes. On CDNA a buffer with a stride is structured if it is swizzled
or the instruction has an index, and its records are indices. On RDNA the resource says which rule (OOB_SELECT):
0 index and offset within the stride, 1 index, 2 only whether there are records at all, 3 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.code.tables import family
from forge.amdgcn.instructions.access.transfer import (
    Piece,
    Run,
    active,
    changing,
    loading,
    loading_to_lds,
    storing,
    width,
)  # fmt: skip
from forge.amdgcn.instructions.operands import row
from forge.amdgcn.state.atomics import named
from forge.amdgcn.state.cells import Mask
from forge.amdgcn.state.waves import Waves, lane_ids
from forge.amdgcn.trap import UNKNOWN, Fault

FORM = re.compile(r"buffer_(load|store|atomic)_(\w+)")


def bind(instruction: Instruction, arch: str) -> Run:
    found = FORM.fullmatch(instruction.name)
    if found is None:
        raise Fault(UNKNOWN, f"{instruction.name} is no memory instruction of {arch}")
    what, tail = found.groups()
    operands, fields = instruction.operands, instruction.fields
    if what == "atomic":
        atomic = named(tail)
        values = [(operands["DATA"], i * atomic.size // 4) for i in range(atomic.operands)]
        pieces = Buffer(instruction, arch, atomic.size, whole=True).pieces
        return changing(pieces, atomic, values, operands.get("D0"))
    to_lds = bool(fields.get("lds")) or tail.endswith("_lds")
    form = width(tail.removesuffix("_lds"))
    pieces = Buffer(instruction, arch, form.size).pieces
    if what == "store":
        return storing(pieces, form, [operands["DATA"]])
    if to_lds:
        return loading_to_lds(pieces, form, fields["offset"])
    return loading(pieces, form, operands["D0"])


class Buffer:
    """The address form of one buffer instruction; `whole` for an access that is in range as a whole or not at all."""

    def __init__(self, instruction: Instruction, arch: str, size: int, whole: bool = False) -> None:
        fields, operands = instruction.fields, instruction.operands
        self.size, self.whole, self.cdna = size, whole, family(arch) == "cdna"
        self.resource = operands["SRSRC"].index
        self.fixed = fields.get("offset", 0)
        self.scalar: int | None = None
        offset = operands.get("SOFFSET")
        if offset is not None and offset.file == "s":
            self.scalar = offset.index
        constant = offset.value if offset is not None and offset.file == "const" else 0
        self.scalar_fixed = constant & 0xFFFFFFFF
        at = row(operands["ADDR"]) if "ADDR" in operands else 0
        self.index = at if fields.get("idxen") else None
        self.offset = at + bool(fields.get("idxen")) if fields.get("offen") else None

    def pieces(self, w: Waves) -> Sequence[Piece]:
        low, high, records = w.sgpr[self.resource : self.resource + 3]
        flags = w.sgpr[self.resource + 3]
        upper = int(high.max()) >> 16
        if upper or self.index is not None or int(flags.max()) >> 23 & 1 or (not self.cdna and not _bytes(flags)):
            return self._structured(w)
        fixed = self.fixed + self.scalar_fixed
        start = (high.astype(np.int64) << 32) | low
        room = records.astype(np.int64) - (fixed + self.size)  # the greatest offset in range
        if self.scalar is not None:
            start = start + w.sgpr[self.scalar]
            room -= w.sgpr[self.scalar]
        offset = w.vgpr[self.offset] if self.offset is not None else np.zeros((w.n, w.lanes), np.uint32)
        address = start + fixed + offset
        if int(offset.max()) <= int(room.min()):
            return ((w.memory, address, active(w), self.size),)
        inside = offset <= room
        if not self.whole and self.size > 4 and (inside != (offset <= room + (self.size - 4))).any():
            return [
                (w.memory, address + k, w.active & (offset <= room + (self.size - 4 - k)), 4)
                for k in range(0, self.size, 4)
            ]
        return ((w.memory, address, inside & w.active, self.size),)

    def _structured(self, w: Waves) -> Sequence[Piece]:
        """Any resource, dword by dword."""
        low, high, records, flags = w.sgpr[self.resource : self.resource + 4]
        base = ((high & 0xFFFF).astype(np.int64) << 32) | low
        layout = int(high.item(0)) >> 16
        flag = int(flags.item(0))
        if bool((high >> 16 != layout).any()) or bool((flags != flag).any()):
            raise Fault(UNKNOWN, "waves use resources of several layouts in one instruction")
        stride = layout & 0x3FFF
        numbered = bool(flag >> 23 & 1)  # the lane's number is added to the index
        if self.cdna and numbered:
            stride |= (flag >> 15 & 0xF) << 14
        swizzle = layout >> 15 if self.cdna else layout >> 14
        element = {0: 0, 1: 4, 2: 8, 3: 16}[swizzle]
        group = 8 << (flag >> 21 & 3)
        shape = (w.n, w.lanes)
        offset = np.zeros(shape, np.int64) if self.offset is None else w.vgpr[self.offset].astype(np.int64)
        offset = offset + self.fixed
        scalar = self.scalar_fixed + (0 if self.scalar is None else w.sgpr[self.scalar].astype(np.int64))
        if numbered and element and not base.any():  # Scratch.RESOURCE
            return ((w.scratch.at(w.ids), offset + scalar // w.lanes, active(w), self.size),)
        index = np.zeros(shape, np.int64) if self.index is None else w.vgpr[self.index].astype(np.int64)
        if numbered:
            index = index + lane_ids(w.lanes)
        limit = records.astype(np.int64)
        step = self.size if self.whole or self.size < 4 else 4
        if self.whole and element and step > element:
            raise Fault(UNKNOWN, f"an atomic of {step} bytes in a buffer whose elements have {element}")
        pieces: list[Piece] = []
        for part in range(0, self.size, step):
            at = offset + part
            if element:
                column = (index // group * stride + at // element * element) * group
                linear = column + index % group * element + at % element
            else:
                linear = at + index * stride
            in_range = self._in_range(index, at, linear + scalar, step, stride, bool(element), limit, flag)
            lanes: Mask = in_range & w.active
            pieces.append((w.memory, base + scalar + linear, lanes, step))
        return pieces

    def _in_range(
        self, index: np.ndarray, offset: np.ndarray, total: np.ndarray, size: int, stride: int, swizzled: bool,
        records: np.ndarray, flag: int,
    ) -> np.ndarray:  # fmt: skip
        if self.cdna:
            rule = 1 if stride and (swizzled or self.index is not None) else 3
        else:
            rule = flag >> 28 & 3
            rule = 1 if rule == 3 and swizzled and stride else rule
        if rule == 0:
            return np.asarray((index < records) & ((offset + size <= stride) | (stride == 0)))
        if rule == 1:
            return np.asarray(index < records)
        if rule == 2:
            return np.broadcast_to(records > 0, index.shape)
        return np.asarray(total + size <= records)


def _bytes(flags: np.ndarray) -> bool:
    """Whether every wave's resource has its range in bytes by RDNA's OOB_SELECT."""
    return bool(((flags >> 28 & 3) == 3).all())
