"""Data-parallel primitives: from which lane of its row a lane takes its operand, by the control field of DPP16.

Source: AMD's CDNA3 and RDNA3 ISA documents, "Data Parallel Processing". A row is 16 lanes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from forge.amdgcn.trap import UNKNOWN, Fault


@lru_cache
def lane_source(control: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """(int[lanes], bool[lanes]): the lane each lane reads, and whether there is one."""
    lane = np.arange(lanes)
    row, place = lane & ~15, lane & 15
    amount = control & 15
    valid = np.ones(lanes, bool)
    if control <= 0xFF:
        return lane & ~3 | control >> 2 * (lane & 3) & 3, valid
    if 0x101 <= control <= 0x10F:
        return row | place + amount & 15, place + amount < 16
    if 0x111 <= control <= 0x11F:
        return row | place - amount & 15, place >= amount
    if 0x121 <= control <= 0x12F:
        return row | place - amount & 15, valid
    if control in (0x130, 0x138):
        moved = lane + (1 if control == 0x130 else -1)
        return moved % lanes, (moved >= 0) & (moved < lanes)
    if control in (0x134, 0x13C):
        return (lane + (1 if control == 0x134 else -1)) % lanes, valid
    if control == 0x140:
        return row | 15 - place, valid
    if control == 0x141:
        return lane & ~7 | 7 - (lane & 7), valid
    if control == 0x142:
        return np.maximum(row - 1, 0), row > 0
    if control == 0x143:
        return np.full(lanes, 31), lane >= 32
    if 0x150 <= control <= 0x15F:  # row_newbcast of CDNA, row_share of RDNA: one lane for all its row
        return row | amount, valid
    if 0x160 <= control <= 0x16F:
        return row | place ^ amount, valid
    raise Fault(UNKNOWN, f"DPP control {control:#x}")
