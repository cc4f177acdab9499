"""Instructions that move values between lanes, and between vector and scalar registers.

The pseudocode of these speaks of the register file itself (VGPR[lane][index]), so they are written by hand after it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.code.tables import family
from forge.amdgcn.instructions.operands import reader, row, writer
from forge.amdgcn.state.waves import Waves

Execute = Callable[[Waves], None]


def bind(instruction: Instruction, arch: str) -> Execute | None:
    """What a cross-lane `instruction` does, or None if it is none."""
    rdna = family(arch) != "cdna"
    name = instruction.name
    if name == "v_readfirstlane_b32":
        return _read_lane(instruction, rdna, first=True)
    if name == "v_readlane_b32":
        return _read_lane(instruction, rdna, first=False)
    if name == "v_writelane_b32":
        return _write_lane(instruction, rdna)
    if name in ("v_permlane16_b32", "v_permlanex16_b32"):
        return _permlane16(instruction, rdna, other_row="x16" in name)
    if name in ("v_permlane16_var_b32", "v_permlanex16_var_b32"):
        return _permlane16_var(instruction, other_row="x16" in name)
    if name == "v_permlane64_b32":
        return _permlane64(instruction)
    if name in ("v_permlane16_swap_b32", "v_permlane32_swap_b32"):
        return _permlane_swap(instruction, 16 if "16" in name else 32)
    if name.startswith(("v_accvgpr_read", "v_accvgpr_write", "v_accvgpr_mov")):
        read, index = reader(instruction.operands["S0"], rdna=rdna), row(instruction.operands["D0"])
        return lambda w: w.write_vector(index, read(w))
    return None


def _read_lane(instruction: Instruction, rdna: bool, *, first: bool) -> Execute:
    """A lane of S0 into a scalar: the first active one (lane 0 if none is), or the one that S1 names."""
    read = reader(instruction.operands["S0"], rdna=rdna)
    write = writer(instruction, instruction.operands["D0"], 32, rdna=rdna)
    select = None if first else reader(instruction.operands["S1"], rdna=rdna)

    def execute(w: Waves) -> None:
        values = np.broadcast_to(read(w), (w.n, w.lanes))
        lane = w.active.argmax(1) if select is None else np.broadcast_to(select(w), (w.n, 1))[:, 0] % w.lanes
        write(w, values[np.arange(w.n), lane][:, None])

    return execute


def _write_lane(instruction: Instruction, rdna: bool) -> Execute:
    """S0 into lane S1 of the result, whether it is active or not."""
    read, select = (reader(instruction.operands[r], rdna=rdna) for r in ("S0", "S1"))
    index = row(instruction.operands["D0"])

    def execute(w: Waves) -> None:
        lane = np.broadcast_to(select(w), (w.n, 1))[:, 0] % w.lanes
        w.vgpr[index][np.arange(w.n), lane] = np.broadcast_to(read(w), (w.n, 1))[:, 0]

    return execute


def _move(w: Waves, index: int, values: np.ndarray, lane: np.ndarray, *, fetch_inactive: int, bound: int) -> None:
    """Write `values` from `lane` [n or 1, lanes]; an inactive source gives 0 (bound) or leaves the lane as it was."""
    lane = np.broadcast_to(lane, (w.n, w.lanes))
    moved = np.take_along_axis(np.broadcast_to(values, (w.n, w.lanes)), lane, 1)
    if not fetch_inactive:
        usable = np.take_along_axis(w.active, lane, 1)
        moved = np.where(usable, moved, np.uint32(0) if bound else w.vgpr[index])
    w.write_vector(index, moved)


def _permlane16(instruction: Instruction, rdna: bool, *, other_row: bool) -> Execute:
    """Any lane of the same row (or of the other row of the pair) to each: 16 selectors of 4 bits in two scalars."""
    read, low, high = (reader(instruction.operands[r], rdna=rdna) for r in ("S0", "S1", "S2"))
    index = row(instruction.operands["D0"])
    opsel = instruction.fields["opsel"]

    def execute(w: Waves) -> None:
        lane = np.arange(w.lanes)
        place = (lane & 7).astype(np.uint32)
        word = np.where((lane & 8) == 0, low(w), high(w))
        select = (word >> (place * np.uint32(4)) & np.uint32(15)).astype(np.int64)
        source = ((lane & ~15) ^ (16 if other_row else 0)) | select
        _move(w, index, read(w), source, fetch_inactive=opsel & 1, bound=opsel >> 1 & 1)

    return execute


def _permlane16_var(instruction: Instruction, *, other_row: bool) -> Execute:
    """As permlane16, each lane naming its source in a vector register."""
    values, select = row(instruction.operands["S0"]), row(instruction.operands["S1"])
    index, opsel = row(instruction.operands["D0"]), instruction.fields["opsel"]

    def execute(w: Waves) -> None:
        lane = np.arange(w.lanes)
        source = ((lane & ~15) ^ (16 if other_row else 0)) | (w.vgpr[select] & np.uint32(15)).astype(np.int64)
        _move(w, index, w.vgpr[values], source, fetch_inactive=opsel & 1, bound=opsel >> 1 & 1)

    return execute


def _permlane64(instruction: Instruction) -> Execute:
    """Swap the halves of a wave of 64; a wave of 32 has nothing to swap."""
    values, index = row(instruction.operands["S0"]), row(instruction.operands["D0"])

    def execute(w: Waves) -> None:
        if w.lanes == 64:
            w.write_vector(index, np.roll(w.vgpr[values], 32, 1))

    return execute


def _permlane_swap(instruction: Instruction, width: int) -> Execute:
    """gfx950: odd rows (of 16 or 32 lanes) of the first register change places with even rows of the second."""
    first, second = row(instruction.operands["D0"]), row(instruction.operands["S0"])

    def execute(w: Waves) -> None:
        a, b = w.vgpr[first].copy(), w.vgpr[second].copy()
        odd = (np.arange(w.lanes) // width % 2).astype(bool)
        w.write_vector(first, np.where(odd, np.roll(b, width, 1), a))
        w.write_vector(second, np.where(odd, b, np.roll(a, -width, 1)))

    return execute
