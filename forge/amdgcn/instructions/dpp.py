"""Data-parallel primitives: from which lane of its row a lane takes its operand.

Source: AMD's CDNA3 and RDNA3 ISA documents, "Data Parallel Processing". A row is 16 lanes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from forge.amdgcn.trap import UNKNOWN, Fault


def lanes_of(fields: Mapping[str, int], lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """`lane_source` of DPP16, or of DPP8: in each eight lanes, the one that the lane's selector names."""
    if "dpp" in fields:
        return lane_source(fields["dpp"], lanes)
    lane = np.arange(lanes)
    chosen = np.array([fields[f"lane_sel_{i}"] for i in range(8)])
    return (lane & ~7) | chosen[lane & 7], np.ones(lanes, bool)


@lru_cache
def lane_source(control: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """(int[lanes], bool[lanes]): by DPP16's control field, the lane each lane reads, and whether there is one.

    Raises Fault(UNKNOWN) for a field that is none.
    """
    lane = np.arange(lanes)
    row, place = lane & ~15, lane & 15
    amount = control & 15
    always = np.ones(lanes, bool)
    if control <= 0xFF:  # quad_perm: two bits for each lane of four
        return (lane & ~3) | ((control >> (2 * (lane & 3))) & 3), always
    if 0x101 <= control <= 0x10F:  # row_shl
        return row | ((place + amount) & 15), place + amount < 16
    if 0x111 <= control <= 0x11F:  # row_shr
        return row | ((place - amount) & 15), place >= amount
    if 0x121 <= control <= 0x12F:  # row_ror
        return row | ((place - amount) & 15), always
    if control in (0x130, 0x138):  # wave_shl, wave_shr
        moved = lane + (1 if control == 0x130 else -1)
        return moved % lanes, (moved >= 0) & (moved < lanes)
    if control in (0x134, 0x13C):  # wave_rol, wave_ror
        return (lane + (1 if control == 0x134 else -1)) % lanes, always
    if control == 0x140:  # row_mirror
        return row | (15 - place), always
    if control == 0x141:  # row_half_mirror
        return (lane & ~7) | (7 - (lane & 7)), always
    if control == 0x142:  # row_bcast15: the last lane of a row to the whole next one
        return np.maximum(row - 1, 0), row > 0
    if control == 0x143:  # row_bcast31
        return np.full(lanes, 31), lane >= 32
    if 0x150 <= control <= 0x15F:  # row_newbcast of CDNA, row_share of RDNA: one lane for all its row
        return row | amount, always
    if 0x160 <= control <= 0x16F:  # row_xmask
        return row | (place ^ amount), always
    raise Fault(UNKNOWN, f"DPP control {control:#x}")
