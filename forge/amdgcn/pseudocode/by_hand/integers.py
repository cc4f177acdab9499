"""Integer instructions by hand: the text reverses bits, indexes by data, or loops over 32 bits where one step does."""

from __future__ import annotations

import numpy as np

from forge.amdgcn.numbers.arithmetic import Array
from forge.amdgcn.pseudocode.by_hand.registry import D32, D64, SCC, Registry, field
from forge.amdgcn.pseudocode.meaning import Output

by_hand = Registry()

_ONES = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint32)
_REVERSED = np.array([int(f"{i:016b}"[::-1], 2) for i in range(1 << 16)], np.uint32)
_LOW = np.uint32(0xFFFF)
_NONE = np.uint32(0xFFFFFFFF)


def _bits(x: Array) -> Array:
    ones: Array = _ONES[x & _LOW] + _ONES[x >> np.uint32(16)]
    return ones


def _bits64(x: Array) -> Array:
    return _bits(x.astype(np.uint32)) + _bits((x >> np.uint64(32)).astype(np.uint32))


def _reverse(x: Array) -> Array:
    turned: Array = (_REVERSED[x & _LOW] << np.uint32(16)) | _REVERSED[x >> np.uint32(16)]
    return turned


def _length(x: Array) -> Array:
    """Number of bits up to the highest one that is set, of uint32: float64 holds them exactly."""
    length: Array = np.frexp(x.astype(np.float64))[1].astype(np.uint32)
    return length


def _first(x: Array) -> Array:
    """Index of the lowest bit set; all ones if none."""
    one = x & (~x + x.dtype.type(1))  # a power of two, exact in float64
    return np.where(x == 0, _NONE, np.frexp(one.astype(np.float64))[1].astype(np.uint32) - np.uint32(1))


@by_hand("s_brev_b32", "v_bfrev_b32", outputs=(D32,))
def reverse(S0: Array) -> tuple[Array, ...]:
    """The text reverses by a slice whose ends are swapped."""
    return (_reverse(S0),)


@by_hand("s_brev_b64", outputs=(D64,), wide="S0")
def reverse64(S0: Array) -> tuple[Array, ...]:
    high = (S0 >> np.uint64(32)).astype(np.uint32)
    return ((_reverse(S0.astype(np.uint32)).astype(np.uint64) << np.uint64(32)) | _reverse(high),)


@by_hand("v_bcnt_u32_b32", outputs=(D32,))
def count(S0: Array, S1: Array) -> tuple[Array, ...]:
    """Speed."""
    return (_bits(S0) + S1,)


@by_hand("s_bcnt1_i32_b32", outputs=(D32, SCC))
def count_scalar(S0: Array) -> tuple[Array, ...]:
    """Speed."""
    ones = _bits(S0)
    return ones, (ones != 0).astype(np.uint32)


@by_hand("s_bcnt1_i32_b64", outputs=(D32, SCC), wide="S0")
def count_scalar64(S0: Array) -> tuple[Array, ...]:
    """Speed; and the text asks for 64 bits of a 32-bit result."""
    ones = _bits64(S0)
    return ones, (ones != 0).astype(np.uint32)


@by_hand("v_mbcnt_lo_u32_b32", outputs=(D32,))
def count_below_low(S0: Array, S1: Array, laneId: Array) -> tuple[Array, ...]:
    """Speed."""
    mask = np.where(laneId < 32, (np.uint32(1) << laneId) - np.uint32(1), _NONE)
    return (_bits(S0 & mask) + S1,)


@by_hand("v_mbcnt_hi_u32_b32", outputs=(D32,))
def count_below_high(S0: Array, S1: Array, laneId: Array) -> tuple[Array, ...]:
    """Speed."""
    above = np.where(laneId < 32, np.uint32(0), laneId - np.uint32(32))
    return (_bits(S0 & ((np.uint32(1) << above) - np.uint32(1))) + S1,)


@by_hand("v_clz_i32_u32", "v_ffbh_u32", "s_clz_i32_u32", "s_flbit_i32_b32", outputs=(D32,))
def leading_zeros(S0: Array) -> tuple[Array, ...]:
    """Speed."""
    return (np.where(S0 == 0, _NONE, np.uint32(32) - _length(S0)),)


@by_hand("v_ctz_i32_b32", "v_ffbl_b32", "s_ctz_i32_b32", "s_ff1_i32_b32", outputs=(D32,))
def trailing_zeros(S0: Array) -> tuple[Array, ...]:
    """Speed."""
    return (_first(S0),)


@by_hand("s_ctz_i32_b64", "s_ff1_i32_b64", outputs=(D32,), wide="S0")
def trailing_zeros64(S0: Array) -> tuple[Array, ...]:
    """Speed."""
    return (_first(S0),)


@by_hand("v_perm_b32", outputs=(D32,))
def permute_bytes(S0: Array, S1: Array, S2: Array) -> tuple[Array, ...]:
    """The text indexes an array by data. Selectors 0..7 a byte of {S0, S1}; 8..11 the sign of byte 1, 3, 5, 7 of it;
    12 zero; 13 and above all ones."""
    data = (S0.astype(np.uint64) << np.uint64(32)) | S1
    result: Array | None = None
    for at in (0, 8, 16, 24):
        chosen = (S2 >> np.uint32(at)) & np.uint32(255)
        place = (chosen & np.uint32(7)).astype(np.uint64) * np.uint64(8)
        byte = (data >> place).astype(np.uint32) & np.uint32(255)
        if np.any(chosen > 7):
            place = ((chosen & np.uint32(3)) * np.uint32(16) + np.uint32(15)).astype(np.uint64)
            signs = ((data >> place) & np.uint64(1)).astype(np.uint32) * np.uint32(255)
            special = np.where(chosen > 12, np.uint32(255), np.where(chosen == 12, np.uint32(0), signs))
            byte = np.where(chosen > 7, special, byte)
        part = byte << np.uint32(at)
        result = part if result is None else result | part
    assert result is not None
    return (result,)


@by_hand("v_pk_mov_b32", outputs=(D64,), wide="S0 S1")
def move_pair(S0: Array, S1: Array, OPSEL: Array) -> tuple[Array, ...]:
    """The text cuts slices by a field. Bit 0 of op_sel takes the high dword of S0 as the low result, bit 1 S1's."""
    chosen = field(OPSEL)
    low = (S0 >> np.uint64(32 * (chosen & 1))) & np.uint64(_NONE)
    return (low | ((S1 >> np.uint64(32 * (chosen >> 1 & 1))) << np.uint64(32)),)


@by_hand("v_swap_b32", outputs=(D32, Output("D1", 32)))
def swap(S0: Array, D0: Array) -> tuple[Array, ...]:
    """The text writes a source: its new value is the second result."""
    return S0, D0


@by_hand("v_swap_b16", outputs=(Output("D0", 16), Output("D1", 16)))
def swap16(S0: Array, D0: Array) -> tuple[Array, ...]:
    """As v_swap_b32."""
    return S0 & _LOW, D0 & _LOW


@by_hand("v_mad_u64_u32", "v_mad_co_u64_u32", outputs=(D64, Output("D1", 1, per_lane_bit=True)), wide="S2")
def multiply_add64(S0: Array, S1: Array, S2: Array) -> tuple[Array, ...]:
    """The text adds in 65 bits; the second result is the carry."""
    total = np.multiply(S0, S1, dtype=np.uint64) + S2
    return total, total < S2


@by_hand("v_mad_i64_i32", "v_mad_co_i64_i32", outputs=(D64, Output("D1", 1, per_lane_bit=True)), wide="S2")
def multiply_add64_signed(S0: Array, S1: Array, S2: Array) -> tuple[Array, ...]:
    """The text adds in 65 bits; the second result is the top one, the sign of the exact sum."""
    product = np.multiply(S0.view(np.int32), S1.view(np.int32), dtype=np.int64)
    addend = np.ascontiguousarray(S2).view(np.int64)
    total = product + addend
    overflow = ((product ^ total) & (addend ^ total)) < 0
    return total.view(np.uint64), (total < 0) ^ overflow


def _bytes(x: Array, signed: bool) -> Array:
    four = np.ascontiguousarray(x)[..., None].view(np.int8 if signed else np.uint8)
    return four.astype(np.int32)


def _dot4(a: Array, b: Array, c: Array, signed: tuple[bool, bool]) -> tuple[Array, ...]:
    products = _bytes(a, signed[0]) * _bytes(b, signed[1])
    return (products.sum(-1, dtype=np.int32).view(np.uint32) + c,)


@by_hand("v_dot4_i32_iu8", outputs=(D32,))
def dot4_mixed(S0: Array, S1: Array, S2: Array, NEG: Array) -> tuple[Array, ...]:
    """Speed. Bits 0 and 1 of neg say that S0's and S1's bytes are signed."""
    return _dot4(S0, S1, S2, (bool(field(NEG) & 1), bool(field(NEG) & 2)))


@by_hand("v_dot4_i32_i8", outputs=(D32,))
def dot4_signed(S0: Array, S1: Array, S2: Array) -> tuple[Array, ...]:
    """Speed."""
    return _dot4(S0, S1, S2, (True, True))


@by_hand("v_dot4c_i32_i8", outputs=(D32,))
def dot4_accumulate(S0: Array, S1: Array, D0: Array) -> tuple[Array, ...]:
    """Speed."""
    return _dot4(S0, S1, D0, (True, True))


@by_hand("v_dot4_u32_u8", outputs=(D32,))
def dot4_unsigned(S0: Array, S1: Array, S2: Array) -> tuple[Array, ...]:
    """Speed."""
    return _dot4(S0, S1, S2, (False, False))
