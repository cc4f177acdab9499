"""Instructions that move values between lanes."""

from __future__ import annotations

import numpy as np
from amdgcn.instructions.oracle import oracle


@oracle("b32 = b32 exec", "v_readfirstlane_b32 s2, v7")
def read_first(value, exec):
    """D = S0 in the first active lane, in lane 0 if none is."""
    return np.take_along_axis(value, exec.argmax(1)[:, None], 1)


def _read_lane(lane: str, cdna=(), rdna=()):
    @oracle("b32 = b32 u32", f"v_readlane_b32 s2, v4, {lane}")
    def read_lane(value, index):
        """D = S0 in the lane that the low bits of S1 name, active or not."""
        index = np.broadcast_to(index % value.shape[1], (value.shape[0], 1))
        return np.take_along_axis(value, index, 1)


for _lane in ("31", "0", "s5", "63"):
    _read_lane(_lane)


PERMLANES = [
    f"v_permlanex16_b32 v7, v6, {selectors} op_sel:[{fetch},{bound}]"
    for selectors in ("-1, -1", "s2, s3", "s2, 0xfedcba98")
    for fetch in (0, 1)
    for bound in (0, 1)
]


@oracle("b32 = b32 b32 b32 exec d.b32", rdna=PERMLANES, modified=True)
def exchange(part, value, low, high, exec, old):
    """Each lane reads from the other row of its pair: lane k's place there is nibble k of {S2, S1}.

    op_sel: [inactive lanes are read too, an inactive lane reads as 0 rather than leaving D].
    """
    fetch, bound = part.bits("op_sel", 0, 2)
    lane = np.arange(32)
    nibble = np.where(lane % 16 < 8, low, high) >> (lane % 8 * 4).astype(np.uint32) & np.uint32(15)
    read = np.broadcast_to(16 - lane // 16 * 16 + nibble.astype(np.int64), value.shape)
    moved = np.take_along_axis(value, read, 1)
    valid = np.take_along_axis(exec, read, 1) | bool(fetch)
    return np.where(valid, moved, np.uint32(0) if bound else old).astype(np.uint32)


@oracle(
    "b32 = b32 exec",
    cdna=["ds_swizzle_b32 v9, v8 offset:swizzle(SWAP,16)", "ds_swizzle_b32 v9, v8 offset:swizzle(SWAP,4)"],
    modified=True,
)
def swap(part, value, exec):
    """D = S0 of the lane whose number differs in one bit; 0 if that lane is inactive."""
    read = np.arange(value.shape[1]) ^ part.modifiers["offset"]
    return np.where(exec[:, read], value[:, read], np.uint32(0))


@oracle("b32 = u32 b32 exec", "ds_bpermute_b32 v4, v3, v7", "ds_bpermute_b32 v4, v3, v7 offset:8", modified=True)
def gather(part, address, value, exec):
    """D = DATA in lane (ADDR + offset) / 4, of as many as there are; 0 if that lane is inactive."""
    read = (address + part.modifiers.get("offset", 0)) // 4 % value.shape[1]
    return np.where(np.take_along_axis(exec, read, 1), np.take_along_axis(value, read, 1), np.uint32(0))
