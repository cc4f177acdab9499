"""Integer and bitwise vector arithmetic of 32 and 64 bits. 32-bit integers are exact int64; the test wraps results."""

from __future__ import annotations

import numpy as np
from amdgcn.instructions.oracle import oracle

WAVE = "row_mask:0xf bank_mask:0xf bound_ctrl:1"
DWORD = "dst_sel:DWORD dst_unused:UNUSED_PAD"


@oracle(
    "u32 = u32 u32",
    cdna=[
        "v_add_u32_e32 v0, v1, v2",
        "v_add_u32_e32 v0, s1, v2",
        "v_add_u32_e32 v0, -16, v2",
        "v_add_u32_e32 v0, 0x12345, v2",
        f"v_add_u32_dpp v7, v5, v5 quad_perm:[1,0,3,2] {WAVE}",
        f"v_add_u32_dpp v6, v6, v6 row_ror:8 {WAVE}",
        "v_add_u32_e64 v0, v1, v2 clamp",
        f"v_add_u32_sdwa v0, v1, sext(v2) {DWORD} src0_sel:DWORD src1_sel:WORD_0",
        f"v_add_u32_sdwa v0, v1, v2 {DWORD} src0_sel:WORD_1 src1_sel:BYTE_2",
    ],
    rdna=[
        "v_add_nc_u32_e32 v0, v1, v2",
        "v_add_nc_u32_e32 v0, s1, v2",
        "v_add_nc_u32_e32 v0, 0x12345, v2",
        f"v_add_nc_u32_dpp v7, v2, v2 row_xmask:1 {WAVE}",
        f"v_add_nc_u32_dpp v2, v2, v2 row_shr:8 {WAVE}",
        "v_add_nc_u32_e64 v0, v1, v2 clamp",
    ],
)
def add(a, b):
    """D = S0 + S1."""
    return a + b


@oracle(
    "u32 = u32 u32",
    cdna=["v_sub_u32_e32 v0, v1, v2", "v_sub_u32_e32 v0, 64, v2", "v_sub_u32_e64 v1, v2, 1 clamp"],
    rdna=["v_sub_nc_u32_e32 v0, v1, v2", "v_sub_nc_u32_e32 v0, 64, v2", "v_sub_nc_u32_e64 v5, v2, 1 clamp"],
)
def subtract(a, b):
    """D = S0 - S1; with clamp not below 0."""
    return a - b


@oracle(
    "u32 = u32 u32",
    cdna=["v_subrev_u32_e32 v0, 32, v1", "v_subrev_u32_e32 v0, v2, v1"],
    rdna=["v_subrev_nc_u32_e32 v0, s5, v1", "v_subrev_nc_u32_e32 v0, v2, v1"],
)
def subtract_reversed(a, b):
    """D = S1 - S0."""
    return b - a


@oracle(
    "u32 = u32 u32 u32",
    "v_add3_u32 v0, v1, v2, s5",
    "v_add3_u32 v0, v1, v2, v3",
    rdna=["v_add3_u32 v1, v1, v5, 0x7fff"],
)
def add3(a, b, c):
    return a + b + c


@oracle("u32 = u32 u32 u32", "v_add_lshl_u32 v1, v2, s3, 1", "v_add_lshl_u32 v1, v2, v3, v4")
def add_shift(a, b, n):
    """D = (S0 + S1) << S2[4:0]."""
    return (a + b) << (n & 31)


@oracle("u32 = u32 u32 u32", "v_lshl_add_u32 v2, v2, 5, 0", "v_lshl_add_u32 v0, v1, v2, v3")
def shift_add(a, n, b):
    """D = (S0 << S1[4:0]) + S2."""
    return (a << (n & 31)) + b


@oracle(
    "u64 = u64 u32 u64",
    cdna=[
        "v_lshl_add_u64 v[2:3], v[2:3], 0, v[4:5]",
        "v_lshl_add_u64 v[2:3], v[2:3], 4, v[4:5]",
        "v_lshl_add_u64 v[2:3], v[2:3], 2, s[4:5]",
        "v_lshl_add_u64 v[2:3], v[2:3], v6, v[4:5]",
    ],
)
def shift_add64(a, n, b):
    """D = (S0 << S1[2:0]) + S2."""
    return (a << (n & 7).astype(np.uint64)) + b


@oracle("u32 = u32 u32 u32", "v_lshl_or_b32 v8, v0, 2, s3", "v_lshl_or_b32 v8, v0, v1, v2")
def shift_or(a, n, b):
    return a << (n & 31) | b


@oracle(
    "b32 = b32 b32 b32",
    "v_and_or_b32 v0, v1, 63, s2",
    "v_and_or_b32 v0, v1, v2, v3",
    rdna=["v_and_or_b32 v3, 0x60, s0, v1"],
)
def and_or(a, b, c):
    return a & b | c


@oracle("b32 = b32 b32 b32", "v_or3_b32 v0, v2, s5, v3", "v_or3_b32 v0, v1, v2, v3")
def or3(a, b, c):
    return a | b | c


@oracle("b32 = b32 b32 b32", rdna=["v_xor3_b32 v15, v7, v5, v8", "v_xor3_b32 v3, v5, s15, v3"])
def xor3(a, b, c):
    return a ^ b ^ c


@oracle(
    "u32 = u32 u32 u32", "v_xad_u32 v5, v3, 32, 0", "v_xad_u32 v5, v3, v4, v2", rdna=["v_xad_u32 v14, 0x860, v14, 0"]
)
def xor_add(a, b, c):
    """D = (S0 ^ S1) + S2."""
    return (a ^ b) + c


@oracle(
    "b32 = b32 b32",
    "v_and_b32_e32 v0, v1, v2",
    "v_and_b32_e32 v7, 0xffff0000, v4",
    "v_and_b32_e32 v7, 1.0, v4",
    "v_and_b32_e32 v7, -4.0, v4",
    cdna=[
        f"v_and_b32_sdwa v3, v0, v7 {DWORD} src0_sel:{a} src1_sel:{b}"
        for a, b in (("WORD_1", "DWORD"), ("BYTE_3", "WORD_0"), ("DWORD", "BYTE_1"))
    ],
)
def bit_and(a, b):
    return a & b


@oracle(
    "b32 = b32 b32",
    "v_or_b32_e32 v1, 0x800, v9",
    "v_or_b32_e32 v1, s15, v4",
    cdna=[f"v_or_b32_sdwa v5, v6, v7 {DWORD} src0_sel:BYTE_0 src1_sel:DWORD"],
)
def bit_or(a, b):
    return a | b


@oracle(
    "b32 = b32 b32",
    "v_xor_b32_e32 v7, v7, v8",
    "v_xor_b32_e32 v7, -1, v8",
    cdna=[
        f"v_xor_b32_sdwa v6, v8, s15 {DWORD} src0_sel:WORD_1 src1_sel:DWORD",
        f"v_xor_b32_sdwa v6, v8, s15 {DWORD} src0_sel:BYTE_3 src1_sel:DWORD",
        f"v_xor_b32_sdwa v6, v8, v9 {DWORD} src0_sel:BYTE_0 src1_sel:WORD_1",
    ],
)
def bit_xor(a, b):
    return a ^ b


@oracle("b32 = b32", "v_not_b32_e32 v8, 63", "v_not_b32_e32 v8, v7")
def bit_not(a):
    return ~a


@oracle(
    "u32 = u32",
    "v_bfrev_b32_e32 v9, 1",
    "v_bfrev_b32_e32 v9, v1",
    rdna=["s_brev_b32 s1, s0"],
    gfx1100=["s_brev_b32 s7, 34"],
    cdna=["s_brev_b32 s7, 1"],
)
def reverse(a):
    """D[31:0] = S0[0:31]."""
    return sum((a >> k & 1) << 31 - k for k in range(32))


@oracle(
    "u32 = u32 u32",
    "v_lshlrev_b32_e32 v6, 16, v4",
    "v_lshlrev_b32_e32 v6, v1, v4",
    cdna=[
        f"v_lshlrev_b32_sdwa v7, v7, v6 {DWORD} src0_sel:DWORD src1_sel:WORD_0",
        f"v_lshlrev_b32_sdwa v7, v7, v6 {DWORD} src0_sel:BYTE_0 src1_sel:WORD_1",
        "v_lshlrev_b32_e64 v8, v4, s3",
    ],
    rdna=["v_lshlrev_b32_e64 v8, v4, 0x200000"],
)
def shift_left(n, a):
    """D = S1 << S0[4:0]."""
    return a << (n & 31)


@oracle(
    "u32 = u32 u32",
    "v_lshrrev_b32_e32 v2, 16, v2",
    "v_lshrrev_b32_e32 v2, v1, v3",
    cdna=["v_lshrrev_b32_sdwa v5, v3, v4 dst_sel:BYTE_1 dst_unused:UNUSED_PAD src0_sel:DWORD src1_sel:DWORD"],
)
def shift_right(n, a):
    return a >> (n & 31)


@oracle("i32 = u32 i32", "v_ashrrev_i32_e32 v3, v3, v5", "v_ashrrev_i32_e32 v2, 24, v2")
def shift_right_signed(n, a):
    return a >> (n & 31)


@oracle(
    "u64 = u32 u64",
    gfx11=["v_lshlrev_b64 v[4:5], 1, v[2:3]", "v_lshlrev_b64 v[4:5], v1, v[2:3]"],
    gfx1201=["v_lshlrev_b64_e32 v[4:5], 1, v[2:3]", "v_lshlrev_b64_e32 v[4:5], v1, v[2:3]"],
)
def shift_left64(n, a):
    """D = S1 << S0[5:0]."""
    return a << (n & 63).astype(np.uint64)


@oracle("u64 = u32 u64", "v_lshrrev_b64 v[4:5], 24, v[2:3]", "v_lshrrev_b64 v[4:5], v1, v[2:3]")
def shift_right64(n, a):
    """D = S1 >> S0[5:0], zeros from above."""
    return a >> (n & 63).astype(np.uint64)


@oracle(
    "u32 = u32 u32 u32",
    "v_alignbit_b32 v2, v3, v2, 3",
    "v_alignbit_b32 v0, v1, v2, v3",
    "v_alignbit_b32 v0, v1, s1, 16",
)
def align(high, low, n):
    """D = {S0, S1} >> S2[4:0]."""
    return low >> (n & 31) | high << 32 - (n & 31)


@oracle("u32 = u32 u32 u32", "v_bfe_u32 v3, v3, 20, 4", "v_bfe_u32 v0, v1, v2, v3")
def extract(a, offset, width):
    """D = S2[4:0] bits of S0 from S1[4:0] on."""
    return a >> (offset & 31) & (1 << (width & 31)) - 1


@oracle("i32 = i32 u32 u32", "v_bfe_i32 v3, v0, 2, 1", "v_bfe_i32 v0, v1, v2, v3")
def extract_signed(a, offset, width):
    """The same with the field's last bit as its sign; a field past bit 31 ends there."""
    width = width & 31
    field = (a >> (offset & 31)) & (1 << width) - 1
    sign = (1 << width) >> 1
    return (field ^ sign) - sign


@oracle("u32 = u32 u32", "v_mul_lo_u32 v4, v2, s14", "v_mul_lo_u32 v4, v2, v3")
def multiply_low(a, b):
    return (a.astype(np.uint64) * b.astype(np.uint64)).view(np.int64)


@oracle("u32 = u32 u32", cdna=["v_mul_hi_u32 v5, v4, v5"], rdna=["v_mul_hi_u32 v5, v4, v5"])
def multiply_high(a, b):
    return (a.astype(np.uint64) * b.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


def signed24(a):
    return ((a & 0xFFFFFF) ^ 0x800000) - 0x800000


@oracle("i32 = i32 i32", "v_mul_i32_i24_e32 v7, -12, v0", "v_mul_i32_i24_e32 v7, v1, v0")
def multiply24_signed(a, b):
    """D = S0[23:0] * S1[23:0], both signed, its lower 32 bits."""
    return signed24(a) * signed24(b)


@oracle("i32 = i32 i32 i32", "v_mad_i32_i24 v2, v3, s0, v2")
def mad24_signed(a, b, c):
    return signed24(a) * signed24(b) + c


@oracle("i64 = u32 i64", "v_ashrrev_i64 v[8:9], 30, v[8:9]", "v_ashrrev_i64 v[8:9], v1, v[2:3]")
def shift_right64_signed(n, a):
    """D = S1 >> S0[5:0]."""
    return a >> (n & 63)


@oracle("u32 = u32 u32", "v_mul_u32_u24_e32 v8, 0x88, v1", "v_mul_u32_u24_e32 v8, v2, v1")
def multiply24(a, b):
    """D = S0[23:0] * S1[23:0], its lower 32 bits."""
    return (a & 0xFFFFFF) * (b & 0xFFFFFF)


@oracle("u32 = u32 u32 u32", "v_mad_u32_u24 v3, v1, v0, v3", rdna=["v_mad_u32_u24 v3, 0x84, v0, v3"])
def mad24(a, b, c):
    return (a & 0xFFFFFF) * (b & 0xFFFFFF) + c


@oracle(
    "u64 m = u32 u32 u64",
    cdna=["v_mad_u64_u32 v[2:3], s[0:1], v5, s8, v[4:5]", "v_mad_u64_u32 v[2:3], s[0:1], v5, v6, v[2:3]"],
    gfx1100=["v_mad_u64_u32 v[9:10], null, 0x380, s15, v[5:6]", "v_mad_u64_u32 v[2:3], s0, v5, v6, v[2:3]"],
    gfx1201=["v_mad_co_u64_u32 v[9:10], null, 0x380, ttmp9, v[5:6]", "v_mad_co_u64_u32 v[2:3], s0, v5, v6, v[2:3]"],
)
def mad64(a, b, c):
    """D = S0 * S1 + S2 in 64 bits, and the carry."""
    total = a.astype(np.uint64) * b.astype(np.uint64) + c
    return total, total < c


@oracle(
    "i64 m = i32 i32 i64",
    cdna=["v_mad_i64_i32 v[2:3], s[6:7], s9, v4, v[0:1]"],
    gfx1100=["v_mad_i64_i32 v[3:4], null, s3, s2, v[1:2]", "v_mad_i64_i32 v[2:3], null, v4, v5, v[2:3]"],
    gfx1201=["v_mad_co_i64_i32 v[2:3], null, s3, s2, v[0:1]", "v_mad_co_i64_i32 v[2:3], null, v4, v5, v[2:3]"],
)
def mad64_signed(a, b, c):
    """D = S0 * S1 + S2 in 64 bits; the mask is bit 64 of the exact sum, its sign."""
    product = a * b
    total = product + c
    wrapped = ((product ^ total) & (c ^ total)) < 0
    return total, (total < 0) ^ wrapped


def _extreme(name: str, choose):
    lines = [f"v_{name}_i32_e32 v2, v2, v3", f"v_{name}_i32_dpp v2, v2, v2 row_shr:8 {WAVE}"]
    cdna = [
        f"v_{name}_i32_dpp v3, v4, v3 quad_perm:[3,2,1,0] {WAVE}",
        f"v_{name}_i32_dpp v2, v2, v2 row_bcast:31 {WAVE}",
    ]
    oracle("i32 = i32 i32", *lines, cdna=cdna, rdna=[f"v_{name}_i32_dpp v1, v1, v1 row_xmask:4 {WAVE}"])(choose)


_extreme("max", np.maximum)
_extreme("min", np.minimum)


@oracle("i32 = i32 i32 i32", "v_min3_i32 v1, v11, v12, v1")
def min3(a, b, c):
    return np.minimum(np.minimum(a, b), c)
