"""Where an element of A, B or D stands: which lane, and which item of that lane.

One formula serves all families. With L lanes that hold A once (a family that wants copies has L = m), K_L = K m B / L
values of k stand in one lane:

    A[b][i][k]   item k mod K_L                                 lane i + m (b + B (k div K_L))
    B[b][k][j]   item k mod K_L                                 lane j + n (b + B (k div K_L))
    D[b][i][j]   item i mod H + H ((i div (H M)) mod G + G (b div B_I))
                 lane j + n (b mod B_I + B_I ((i div H) mod M))

H is the op's `rows` (4 on CDNA, 1 for its f64 and for RDNA3, 8 on RDNA4), B_I = ceil(lanes / (m n / H)) the blocks that
share one register, M = lanes / (B_I n) the groups of rows side by side, G = m / (H M) those that follow in further
registers. Items fill registers from the low bits up; an f64 takes two registers, low first. A and B obey one rule for
k, so that no result but those of modifiers that tell low halves from high ones depends on it.

Source: AMD's MI300 ISA document, the formulas of dense matrix layouts; AMD's RDNA3 and RDNA4 ISA documents on WMMA,
whose tables are H = 1 and H = 8. cbsz and blgp as AMD's matrix instruction calculator has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from forge.amdgcn.matrix.ops import BITS, MatrixOp

Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Layout:
    """`a[blocks, m, k]` and `b[blocks, k, n]`: positions in a wave's elements, counted (slot, lane, part), a slot being
    a register or an f64's pair. `d[items, lanes]`: positions in the products, counted (block, row, column)."""

    a: Index
    b: Index
    d: Index


@cache
def layout(op: MatrixOp, cbsz: int = 0, abid: int = 0, blgp: int = 0) -> Layout:
    """The op's layout; cbsz makes 2^cbsz blocks read A of block abid among them, blgp permutes the lanes of B."""
    block, i, k = np.meshgrid(np.arange(op.blocks), np.arange(op.m), np.arange(op.k), indexing="ij")
    read = (block >> cbsz << cbsz) | abid
    a = _source(op, read, i, k, op.a_type, np.arange(op.lanes))
    b = _source(op, block, i, k, op.b_type, _lane_groups(op.lanes, blgp)).transpose(0, 2, 1)

    block, i, j = np.meshgrid(np.arange(op.blocks), np.arange(op.m), np.arange(op.n), indexing="ij")
    together = max(1, op.lanes * op.rows // (op.m * op.n))
    side = op.lanes // (together * op.n)
    following = op.m // (op.rows * side)
    item = i % op.rows + op.rows * (i // (op.rows * side) % following + following * (block // together))
    lane = j + op.n * (block % together + together * (i // op.rows % side))
    d = np.empty((item.max() + 1, op.lanes), np.intp)
    d[item, lane] = (block * op.m + i) * op.n + j
    return Layout(a, np.ascontiguousarray(b), d)


def _source(op: MatrixOp, block: Index, row: Index, k: Index, kind: str, lane_read: Index) -> Index:
    once = op.lanes // op.copies
    a_lane = op.k * op.m * op.blocks // once
    lane = lane_read[row + op.m * (block + op.blocks * (k // a_lane))]
    item, parts = k % a_lane, max(1, 32 // BITS[kind])
    return (item // parts * op.lanes + lane) * parts + item % parts


def _lane_groups(lanes: int, blgp: int) -> Index:
    """Which lane of B each lane reads: 1, 2 one half for both; 3 the next 16 lanes; 4 to 7 one quarter for all."""
    lane = np.arange(lanes)
    if blgp in (1, 2):
        return lane % 32 + 32 * (blgp - 1)
    if blgp == 3:
        return (lane + 16) % 64
    return lane % 16 + 16 * (blgp - 4) if blgp else lane
