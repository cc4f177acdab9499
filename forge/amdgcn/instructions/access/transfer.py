"""Between registers and places in memory: loads, stores and atomics over the pieces of an access.

An access is one piece or several (two addresses of LDS, the dwords of a buffer's edge), each a place, an address
array, the lanes that use it and its bytes. Loaded values land in registers under EXEC, whether or not a lane's piece
was used (a buffer gives 0 out of its range).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forge.amdgcn.code.instruction import CDNA_M0, Operand
from forge.amdgcn.instructions.operands import row
from forge.amdgcn.state.atomics import Atomic
from forge.amdgcn.state.cells import Mask
from forge.amdgcn.state.waves import Waves, lane_ids
from forge.amdgcn.trap import UNKNOWN, Fault

Run = Callable[[Waves], None]


class Place(Protocol):
    """Memory, or a window of LDS or scratch."""

    def load(self, address: np.ndarray, active: Mask, size: int) -> np.ndarray: ...

    def store(self, address: np.ndarray, active: Mask, size: int, data: np.ndarray) -> None: ...

    def atomic(
        self, address: np.ndarray, active: Mask, atomic: Atomic, operands: list[np.ndarray], returned: bool
    ) -> np.ndarray | None: ...


Piece = tuple[Place, np.ndarray, Mask, int]
Pieces = Callable[[Waves], Sequence[Piece]]


@dataclass(frozen=True)
class Width:
    """`size` bytes; a narrow load is extended by `signed`, or goes to half a register (`d16`, the upper one if `high`)
    and leaves the other half as it was."""

    size: int
    signed: bool = False
    d16: bool = False
    high: bool = False

    @property
    def words(self) -> int:
        return max(1, self.size // 4)


_WIDTHS = {
    "u8": (1, False), "b8": (1, False), "ubyte": (1, False), "byte": (1, False), "i8": (1, True), "sbyte": (1, True),
    "u16": (2, False), "b16": (2, False), "ushort": (2, False), "short": (2, False), "i16": (2, True),
    "sshort": (2, True), "b32": (4, False), "dword": (4, False), "b64": (8, False), "dwordx2": (8, False),
    "b96": (12, False), "dwordx3": (12, False), "b128": (16, False), "dwordx4": (16, False), "b256": (32, False),
    "dwordx8": (32, False), "b512": (64, False), "dwordx16": (64, False),
}  # fmt: skip


def width(text: str) -> Width:
    """The width that a mnemonic ends in: `dwordx2`, `u8_d16_hi`, `d16_hi_b16`, `sshort`. Raises Fault(UNKNOWN)."""
    words = text.split("_")
    left = [word for word in words if word not in ("d16", "hi")]
    if len(left) != 1 or left[0] not in _WIDTHS:
        raise Fault(UNKNOWN, f"no width {text!r}")
    return Width(*_WIDTHS[left[0]], "d16" in words, "hi" in words)


def active(w: Waves) -> Mask:
    """The lanes that EXEC leaves on; None if it leaves all."""
    return None if w.all_active else w.active


def landing(form: Width, operand: Operand, words: int | None = None) -> Callable[[Waves, np.ndarray], None]:
    """A function that writes uint32[words, n, lanes], zero-extended, to `operand` in the active lanes."""
    at = row(operand)
    end = at + (words or form.words)
    if form.size >= 4:

        def land(w: Waves, value: np.ndarray) -> None:
            if w.all_active:
                w.vgpr[at:end] = value
            else:
                np.copyto(w.vgpr[at:end], value, where=w.active)

        return land
    low, high = np.uint32(0xFFFF), np.uint32(0xFFFF0000)

    def land_narrow(w: Waves, value: np.ndarray) -> None:
        word = extended(value[0], form)
        if form.d16:
            held = w.vgpr[at]
            word = (held & low) | (word << 16) if form.high else (held & high) | (word & low)
        w.write_vector(at, word)

    return land_narrow


def extended(word: np.ndarray, form: Width) -> np.ndarray:
    """`word` with the sign of its low bytes, where the form has one."""
    if not form.signed:
        return word
    shift = 32 - 8 * form.size
    return ((word << shift).view(np.int32) >> shift).view(np.uint32)


def loading(pieces: Pieces, form: Width, operand: Operand, words: int | None = None) -> Run:
    """A load of `words` dwords (those of the form unless told) into `operand`."""
    land = landing(form, operand, words)

    def load(w: Waves) -> None:
        parts = [place.load(address, lanes, size) for place, address, lanes, size in pieces(w)]
        land(w, parts[0] if len(parts) == 1 else np.concatenate(parts))

    return load


def storing(pieces: Pieces, form: Width, operands: Sequence[Operand]) -> Run:
    """A store of the operands, one after another, into the pieces in their order."""
    starts = [row(operand) for operand in operands]

    def store(w: Waves) -> None:
        parts = [w.vgpr[at : at + form.words] for at in starts]
        data = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if form.high:
            data = data >> 16
        done = 0
        for place, address, lanes, size in pieces(w):
            words = max(1, size // 4)
            place.store(address, lanes, size, data[done : done + words])
            done += words

    return store


def changing(pieces: Pieces, atomic: Atomic, operands: Sequence[tuple[Operand, int]], result: Operand | None) -> Run:
    """An atomic; `operands` are registers and the dwords to skip in them (a comparison follows its value)."""
    words = atomic.size // 4
    starts = [row(operand) + skip for operand, skip in operands]
    land = landing(Width(atomic.size), result) if result is not None else None

    def change(w: Waves) -> None:
        values = [w.vgpr[at : at + words] for at in starts]
        for place, address, lanes, _ in pieces(w):
            old = place.atomic(address, lanes, atomic, values, land is not None)
            if land is not None and old is not None:
                land(w, old)

    return change


def loading_to_lds(pieces: Pieces, form: Width, offset: int, arch: str) -> Run:
    """A load that goes to LDS: lane i's dwords to M0 + offset + i * bytes, a narrow value as a dword.
    Lanes out of a buffer's range store their 0 as well. Only CDNA has it; gfx950, of a larger LDS, takes all of M0."""
    size = max(4, form.size)
    reach = np.uint32(0xFFFFFFFF if arch == "gfx950" else 0xFFFF)

    def load(w: Waves) -> None:
        parts = [place.load(address, lanes, piece) for place, address, lanes, piece in pieces(w)]
        value = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if form.size < 4:
            value = extended(value[0], form)[None]
        address = (w.sgpr[CDNA_M0] & reach) + lane_ids(w.lanes) * np.uint32(size)
        w.lds.at(w.group, w.ids, offset).store(address, active(w), size, value)

    return load
