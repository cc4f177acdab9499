"""Integer and bitwise vector arithmetic of 16 bits: the other half of the register stays (RDNA) or is cleared."""

from __future__ import annotations

from amdgcn.instructions.oracle import oracle

DWORD = "dst_sel:DWORD dst_unused:UNUSED_PAD"


@oracle(
    "u16 = u16 u16",
    cdna=["v_add_u16_e32 v0, s7, v3", "v_add_u16_e32 v0, v1, v3"],
    rdna=["v_add_nc_u16 v2.l, v3.h, -8", "v_add_nc_u16 v2.h, v2.h, v3.l", "v_add_nc_u16 v2.l, s12, v7.l"],
)
def add(a, b):
    """D = S0 + S1."""
    return a + b


@oracle("b16 = b16 b16", rdna=["v_and_b16 v3.l, 1, v3.l", "v_and_b16 v3.h, v4.l, v3.h"])
def bit_and(a, b):
    return a & b


@oracle(
    "b16 = b16 b16",
    rdna=["v_or_b16 v8.l, v5.h, -16", "v_or_b16 v8.l, 0xffe0, v8.h", "v_or_b16 v8.h, v4.l, v5.h"],
)
def bit_or(a, b):
    return a | b


@oracle("b16 = b16 b16", rdna=["v_xor_b16 v9.l, 0x80, v7.l", "v_xor_b16 v9.h, v7.l, v8.h"])
def bit_xor(a, b):
    return a ^ b


@oracle(
    "u16 = u16 u16",
    cdna=[
        "v_lshrrev_b16_e32 v0, 1, v0",
        "v_lshrrev_b16_e32 v0, v1, v2",
        f"v_lshrrev_b16_sdwa v5, v3, v4 {DWORD} src0_sel:DWORD src1_sel:BYTE_3",
        f"v_lshrrev_b16_sdwa v5, v3, v4 {DWORD} src0_sel:WORD_1 src1_sel:DWORD",
    ],
    rdna=["v_lshrrev_b16 v3.h, 8, v3.l", "v_lshrrev_b16 v3.l, v4.h, v3.l"],
)
def shift_right(n, a):
    """D.u16 = S1.u16 >> S0[3:0]."""
    return a >> (n & 15)


@oracle(
    "i16 = u16 i16",
    cdna=[
        "v_ashrrev_i16_e32 v0, 8, v1",
        "v_ashrrev_i16_e32 v0, v1, v2",
        f"v_ashrrev_i16_sdwa v5, v3, v4 {DWORD} src0_sel:DWORD src1_sel:WORD_1",
    ],
    rdna=["v_ashrrev_i16 v5.l, 8, v7.l", "v_ashrrev_i16 v5.h, v6.l, v7.h"],
)
def shift_right_signed(n, a):
    """D = S1 >> S0[3:0], copies of the sign from above."""
    return a >> (n & 15)


@oracle(
    "u16 = u16 u16",
    cdna=[
        "v_lshlrev_b16_e32 v0, 8, v1",
        "v_lshlrev_b16_e32 v0, v1, v2",
        f"v_lshlrev_b16_sdwa v5, v3, sext(v4) {DWORD} src0_sel:DWORD src1_sel:BYTE_0",
    ],
    rdna=["v_lshlrev_b16 v9.h, 8, v12.l", "v_lshlrev_b16 v3.l, v4.h, v3.l"],
)
def shift_left(n, a):
    """D = S1 << S0[3:0]."""
    return a << (n & 15)
