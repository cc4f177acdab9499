"""Lanes that read each other through LDS's crossbar: permutes, swizzles and transposed reads. No memory is touched,
except by the last."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from forge.amdgcn.code.instruction import Instruction, Operand
from forge.amdgcn.code.tables import family
from forge.amdgcn.instructions.access.transfer import Pieces, Run, Width, landing
from forge.amdgcn.instructions.operands import row
from forge.amdgcn.state.waves import Waves, lane_ids

PERMUTE = re.compile(r"ds_(b?permute)_(fi_)?b32")


def bind(instruction: Instruction, arch: str, offset: int) -> Run | None:
    """A permute or a swizzle; None if it is neither."""
    found = PERMUTE.fullmatch(instruction.name)
    if found is not None:
        return _permute(instruction, found[1], bool(found[2]), offset, arch)
    if instruction.name == "ds_swizzle_b32":
        return _swizzle(instruction, offset)
    return None


def _permute(instruction: Instruction, way: str, inactive_too: bool, offset: int, arch: str) -> Run:
    """Pull (bpermute) or push (permute) dwords by lane number (ADDR + offset) / 4, modulo the lanes of a wave.

    On RDNA 3 the number is taken modulo 32 in a wave of 64 too; lanes are taken to stay in their half.
    """
    address, data, result = (row(instruction.operands[role]) for role in ("ADDR", "DATA", "D0"))
    reach = 32 if family(arch) == "rdna3" else 64
    more = np.uint32(offset)

    def other(w: Waves) -> tuple[np.ndarray, np.ndarray]:
        """The wave and lane that each lane names: int[n, 1], uint32[n, lanes]."""
        group = np.uint32(min(reach, w.lanes))
        first = lane_ids(w.lanes) & ~(group - np.uint32(1))  # of the lane's group
        lane = first + (((w.vgpr[address] + more) >> 2) & (group - np.uint32(1)))
        return np.arange(w.n)[:, None], lane

    def pull(w: Waves) -> None:
        wave, lane = other(w)
        value = w.vgpr[data][wave, lane]
        if not (w.all_active or inactive_too):
            value = value * w.active[wave, lane]
        w.write_vector(result, value)

    def push(w: Waves) -> None:
        wave, lane = other(w)
        value = np.zeros((w.n, w.lanes), np.uint32)
        on = w.active
        value[np.broadcast_to(wave, lane.shape)[on], lane[on]] = w.vgpr[data][on]  # in order: the highest lane stays
        w.write_vector(result, value)

    return pull if way == "bpermute" else push


def _swizzle(instruction: Instruction, offset: int) -> Run:
    """The lane that each lane reads is fixed by the offset; a source lane that is off gives 0."""
    # Its one source is encoded where others have their address.
    source, result = row(instruction.operands["ADDR"]), row(instruction.operands["D0"])

    def swizzle(w: Waves) -> None:
        lane = swizzled(offset, w.lanes)
        value = w.vgpr[source][:, lane]
        w.write_vector(result, value if w.all_active else value * w.active[:, lane])

    return swizzle


@lru_cache
def swizzled(offset: int, lanes: int) -> np.ndarray:
    """int[lanes]: the source lane of each lane, in groups of 32.

    Offsets from 0xe000 are an FFT's bit reversal (mask in 4:0), from 0xc000 a rotation (by 9:5, downwards if bit 10,
    of the lanes that mask 4:0 leaves), from 0x8000 a permutation of each quad (two bits a lane), below a bit mask:
    and by 4:0, or by 9:5, exclusive or by 14:10.
    """
    lane = np.arange(lanes)
    low = lane & 31
    mask = offset & 31
    if offset >= 0xE000:
        reverse = sum((low >> bit & 1) << (4 - bit) for bit in range(5))
        source = (reverse >> mask.bit_count()) | (low & mask)
    elif offset >= 0xC000:
        turn = offset >> 5 & 31
        turned = (low - turn if offset >> 10 & 1 else low + turn) & 31
        source = (low & mask) | (turned & ~mask)
    elif offset >= 0x8000:
        source = (low & ~3) | ((offset >> (2 * (low & 3))) & 3)
    else:
        source = ((low & mask) | (offset >> 5 & 31)) ^ (offset >> 10 & 31)
    return np.asarray(source | (lane & 32))


def transposed(pieces: Pieces, size: int, bits: int, result: Operand) -> Run:
    """gfx950's transposed reads: 16 lanes read a tile of rows of 16 elements, and each gets one column.

    Lane s of a group of 16 reads `size` bytes, E elements of `bits` bits (6-bit ones: 16 in 96 bits). Strung together
    the group's elements are E rows of 16; lane l ends with element l of each row, in order. With 16 bits that is the
    operand layout of the matrix instructions, 4 consecutive k a lane, read from a tile whose k is the slow dimension:
    the use for which AMD's CDNA 4 document (section 11.4) gives these instructions. No pseudocode states the layout;
    it is derived from that use.
    """
    elements = size * 8 // bits
    land = landing(Width(size), result)

    def read(w: Waves) -> None:
        ((place, address, lanes, _),) = pieces(w)
        words = place.load(address, lanes, size)
        octets = np.ascontiguousarray(np.moveaxis(words, 0, 2)).view(np.uint8).reshape(w.n, -1, 16 * size)
        if bits >= 8:
            unit = octets.view(np.dtype(f"u{bits // 8}")).reshape(w.n, -1, elements, 16)
            turned = np.ascontiguousarray(unit.swapaxes(2, 3)).view(np.uint32)
        else:
            unit = np.unpackbits(octets, axis=-1, bitorder="little").reshape(w.n, -1, elements, 16, bits)
            columns = np.ascontiguousarray(unit.swapaxes(2, 3)).reshape(w.n, -1, 16, elements * bits)
            turned = np.packbits(columns, axis=-1, bitorder="little").view(np.uint32)
        land(w, np.moveaxis(turned.reshape(w.n, w.lanes, size // 4), 2, 0))

    return read
