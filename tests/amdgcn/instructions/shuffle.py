"""Which lane DPP reads for each lane, by the words of the ISA documents' chapter on data parallel primitives."""

from __future__ import annotations

import numpy as np
from amdgcn.instructions.text import Part

CONTROLS = (
    "quad_perm",
    "row_shl",
    "row_shr",
    "row_ror",
    "row_mirror",
    "row_half_mirror",
    "row_bcast",
    "row_share",
    "row_xmask",
    "row_newbcast",
)


def is_dpp(part: Part) -> bool:
    return any(c in part.modifiers for c in CONTROLS)


def lane_read(part: Part, lanes: int) -> np.ndarray:
    """int[lanes]: the lane that each lane reads, -1 where there is none. Rows are of 16 lanes."""
    lane = np.arange(lanes)
    row, place = lane & ~15, lane & 15
    (control,) = [c for c in CONTROLS if c in part.modifiers]
    n = part.modifiers[control]
    if control == "quad_perm":
        return (lane & ~3) | np.array(n)[lane & 3]
    if control == "row_shl":
        return np.where(place + n < 16, lane + n, -1)
    if control == "row_shr":
        return np.where(place - n >= 0, lane - n, -1)
    if control == "row_ror":
        return row | (place - n) % 16
    if control == "row_mirror":
        return row | 15 - place
    if control == "row_half_mirror":
        return (lane & ~7) | 7 - (lane & 7)
    if control == "row_bcast":  # 15: the last lane of the row before; 31: lane 31, for the upper half of the wave
        return np.where(lane >= 16, row - 1, -1) if n == 15 else np.where(lane >= 32, 31, -1)
    return row | {"row_xmask": place ^ n, "row_share": n, "row_newbcast": n}[control]


def dpp(part: Part, value: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the moved value, the lanes that are written) for a value [n, lanes].

    A lane whose source lies outside or is inactive reads 0 with bound_ctrl and is not written without it. Lanes of rows
    and banks (4 lanes of a row) whose mask bit is 0 are not written.
    """
    lanes = value.shape[1]
    read = lane_read(part, lanes)
    valid = (read >= 0) & (active[:, read] | bool(part.modifiers.get("fi", 0)))
    lane = np.arange(lanes)
    rows, banks = part.modifiers.get("row_mask", 15), part.modifiers.get("bank_mask", 15)
    enabled = active & ((rows >> lane // 16 & 1) & (banks >> lane % 16 // 4 & 1)).astype(bool)
    if not part.modifiers.get("bound_ctrl", 0):
        enabled = enabled & valid
    return np.where(valid, value[:, read], np.uint64(0)), enabled
