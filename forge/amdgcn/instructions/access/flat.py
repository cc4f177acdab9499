"""global_, flat_ and scratch_ instructions.

Global: SADDR (64 bits) + ADDR (32 bits, unsigned) + offset, or ADDR (64 bits) + offset; the offset is signed. Flat is
taken as global: its windows onto LDS and scratch lie in no mapped tensor, so that an access there is a fault.
Scratch: SADDR + ADDR + offset within the lane's own bytes, either register optional.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.instructions.access.transfer import (
    Pieces,
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
from forge.amdgcn.state.waves import Waves
from forge.amdgcn.trap import UNKNOWN, Fault

FORM = re.compile(r"(global|flat|scratch)_(load_lds|load|store|atomic)_(\w+)")


def bind(instruction: Instruction, arch: str) -> Run:
    found = FORM.fullmatch(instruction.name)
    if found is None:
        raise Fault(UNKNOWN, f"{instruction.name} is no memory instruction of {arch}")
    space, what, tail = found.groups()
    operands = instruction.operands
    if what == "atomic":
        atomic = named(tail)
        pieces = _pieces(instruction, space, atomic.size, arch)
        values = [(operands["DATA"], i * atomic.size // 4) for i in range(atomic.operands)]
        return changing(pieces, atomic, values, operands.get("D0"))
    form = width(tail)
    pieces = _pieces(instruction, space, form.size, arch)
    if what == "store":
        return storing(pieces, form, [operands["DATA"]])
    if what == "load_lds" or instruction.fields.get("lds"):
        return loading_to_lds(pieces, form, instruction.fields["offset"], arch)
    return loading(pieces, form, operands["D0"])


def _pieces(instruction: Instruction, space: str, size: int, arch: str) -> Pieces:
    if space == "scratch":
        return _private(instruction, size, arch)
    address = _address(instruction, space)
    return lambda w: ((w.memory, address(w), active(w), size),)


def _address(instruction: Instruction, space: str) -> Callable[[Waves], np.ndarray]:
    """int64[n, lanes]: addresses beyond its range are in no tensor either."""
    at, offset = row(instruction.operands["ADDR"]), instruction.fields.get("offset", 0)
    base = instruction.operands.get("SADDR") if space == "global" else None  # flat leaves the field's bits unused
    if base is not None:
        low, high = base.index, base.index + 1

        def from_scalar(w: Waves) -> np.ndarray:
            start = ((w.sgpr[high].astype(np.int64) << 32) | w.sgpr[low]) + offset
            return np.asarray(start + w.vgpr[at])

        return from_scalar

    def from_vector(w: Waves) -> np.ndarray:
        pairs = np.empty((w.n, w.lanes, 2), np.uint32)
        pairs[..., 0] = w.vgpr[at]
        pairs[..., 1] = w.vgpr[at + 1]
        return pairs.view(np.int64)[..., 0] + offset

    return from_vector


def _private(instruction: Instruction, size: int, arch: str) -> Pieces:
    offset = instruction.fields.get("offset", 0)
    base, lane = instruction.operands.get("SADDR"), instruction.operands.get("ADDR")
    # gfx90a has a vector address or a scalar one; the others say by a bit whether there is a vector address
    vector = base is None if arch == "gfx90a" else bool(instruction.fields.get("sve", lane is not None))
    at = row(lane) if vector and lane is not None else None

    def pieces(w: Waves) -> tuple[tuple[object, np.ndarray, np.ndarray | None, int], ...]:
        address = w.vgpr[at].astype(np.int64) if at is not None else np.zeros((w.n, w.lanes), np.int64)
        if base is not None:
            address = address + (w.sgpr[base.index] if base.file == "s" else base.value)
        return ((w.scratch.at(w.ids, offset), address, active(w), size),)

    return pieces  # type: ignore[return-value]
