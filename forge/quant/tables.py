"""Tables of 16 int8 on a device: four codes of 4 bits, one a byte of an int32, become the four entries.

A table is four words, which stay in registers. The byte permutations of AMD and NVIDIA pick from eight bytes: one picks
from the lower half of the table, one from the upper, one chooses. A table in memory would take a load for two codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forge.language import INTERPRETED, jit, tl


def words_of_table(values: Sequence[int]) -> Any:
    """The constexpr that `look_up` takes, of 16 int8."""
    octets = bytes(value & 255 for value in values)
    words = tuple(int.from_bytes(octets[i : i + 4], "little", signed=True) for i in range(0, 16, 4))
    return words if tl is None else tl.constexpr(words)


@jit
def look_up(codes, T: tl.constexpr):
    """int32 words of the entries that the codes name."""
    if INTERPRETED:
        found = _in_arithmetic(codes, T)
    elif tl.target_info.is_hip():
        places = codes & 0x07070707
        lower = _v_perm(tl.full(codes.shape, T[1], tl.int32), tl.full(codes.shape, T[0], tl.int32), places)
        upper = _v_perm(tl.full(codes.shape, T[3], tl.int32), tl.full(codes.shape, T[2], tl.int32), places)
        found = _v_perm(upper, lower, 0x03020100 | ((codes & 0x08080808) >> 1))
    else:
        pairs = codes | (codes >> 4)  # byte 0: the first two codes, byte 2: the last two
        nibbles = (pairs & 0xFF) | ((pairs >> 8) & 0xFF00)
        places = nibbles & 0x7777
        lower = _prmt(tl.full(codes.shape, T[0], tl.int32), tl.full(codes.shape, T[1], tl.int32), places)
        upper = _prmt(tl.full(codes.shape, T[2], tl.int32), tl.full(codes.shape, T[3], tl.int32), places)
        found = _prmt(lower, upper, 0x3210 | ((nibbles & 0x8888) >> 1))
    return found


@jit
def _v_perm(high, low, places):
    """Bytes of `low` where a byte of `places` is 0 to 3, of `high` where it is 4 to 7. AMD."""
    return tl.inline_asm_elementwise("v_perm_b32 $0, $1, $2, $3", "=v,v,v,v", [high, low, places], tl.int32, True, 1)


@jit
def _prmt(low, high, places):
    """The same, with the places in the four lowest nibbles. NVIDIA."""
    return tl.inline_asm_elementwise("prmt.b32 $0, $1, $2, $3;", "=r,r,r,r", [low, high, places], tl.int32, True, 1)


@jit
def _in_arithmetic(codes, T: tl.constexpr):
    """For the interpreter, which runs no assembly."""
    found = codes * 0
    for byte in tl.static_range(4):
        code = (codes >> (8 * byte)) & 15
        for place in tl.static_range(16):
            entry = (T[place // 4] >> (8 * (place % 4))) & 255
            found = found | (tl.where(code == place, entry, 0) << (8 * byte))
    return found
