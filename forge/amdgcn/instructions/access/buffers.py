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
from dataclasses import dataclass

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

BY_BOTH, BY_INDEX, IF_ANY, BY_BYTES = range(4)  # which range counts, as OOB_SELECT has it
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
        return loading_to_lds(pieces, form, fields["offset"], arch)
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
        numbered = int(flags.max()) >> 23 & 1
        if upper or numbered or self.index is not None or not (self.cdna or _bytes(flags)):
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
        resource = self._resource(w)
        shape = (w.n, w.lanes)
        offset = np.zeros(shape, np.int64) if self.offset is None else w.vgpr[self.offset].astype(np.int64)
        offset = offset + self.fixed
        scalar = self.scalar_fixed + (0 if self.scalar is None else w.sgpr[self.scalar].astype(np.int64))
        if resource.numbered and resource.element and not resource.base.any():  # Scratch.RESOURCE
            return ((w.scratch.at(w.ids), offset + scalar // w.lanes, active(w), self.size),)
        index = np.zeros(shape, np.int64) if self.index is None else w.vgpr[self.index].astype(np.int64)
        if resource.numbered:
            index = index + lane_ids(w.lanes)
        step = self.size if self.whole or self.size < 4 else 4
        if self.whole and resource.element and step > resource.element:
            raise Fault(UNKNOWN, f"an atomic of {step} bytes in a buffer whose elements have {resource.element}")
        pieces: list[Piece] = []
        for part in range(0, self.size, step):
            at = offset + part
            linear = resource.linear(index, at)
            lanes: Mask = resource.in_range(index, at, linear + scalar, step) & w.active
            pieces.append((w.memory, resource.base + scalar + linear, lanes, step))
        return pieces

    def _resource(self, w: Waves) -> Resource:
        """The resource of all waves, which may have different bases and records only."""
        low, high, records, flags = w.sgpr[self.resource : self.resource + 4]
        layout, flag = int(high.item(0)) >> 16, int(flags.item(0))
        if bool((high >> 16 != layout).any()) or bool((flags != flag).any()):
            raise Fault(UNKNOWN, "waves use resources of several layouts in one instruction")
        stride, numbered = layout & 0x3FFF, bool(flag >> 23 & 1)
        if self.cdna and numbered:
            stride |= (flag >> 15 & 0xF) << 14
        element = (0, 4, 8, 16)[layout >> 15 if self.cdna else layout >> 14]
        if self.cdna:
            rule = BY_INDEX if stride and (element or self.index is not None) else BY_BYTES
        else:
            rule = flag >> 28 & 3
            rule = BY_INDEX if rule == BY_BYTES and element and stride else rule
        base = ((high & 0xFFFF).astype(np.int64) << 32) | low
        return Resource(base, records.astype(np.int64), stride, numbered, element, 8 << (flag >> 21 & 3), rule)


@dataclass(frozen=True)
class Resource:
    """A buffer resource. A swizzled buffer has, for `group` indices at a time, their first elements side by side, then
    their second ones."""

    base: np.ndarray  # int64[n, 1], as `records`
    records: np.ndarray
    stride: int  # bytes
    numbered: bool  # the lane's number is added to the index
    element: int  # bytes that stay together where the buffer is swizzled; 0 where it is not
    group: int
    rule: int  # BY_...

    def linear(self, index: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Bytes from the base to `offset` in the record `index`."""
        if not self.element:
            return np.asarray(offset + index * self.stride)
        column = (index // self.group * self.stride + offset // self.element * self.element) * self.group
        return np.asarray(column + index % self.group * self.element + offset % self.element)

    def in_range(self, index: np.ndarray, offset: np.ndarray, total: np.ndarray, size: int) -> np.ndarray:
        """bool[n, lanes]; `total` are the bytes from the base, SOFFSET included."""
        if self.rule == BY_BOTH:
            return np.asarray((index < self.records) & ((offset + size <= self.stride) | (self.stride == 0)))
        if self.rule == BY_INDEX:
            return np.asarray(index < self.records)
        if self.rule == IF_ANY:
            return np.broadcast_to(self.records > 0, index.shape)
        return np.asarray(total + size <= self.records)


def _bytes(flags: np.ndarray) -> bool:
    """Whether every wave's resource has its range in bytes by RDNA's OOB_SELECT."""
    return bool(((flags >> 28 & 3) == BY_BYTES).all())
