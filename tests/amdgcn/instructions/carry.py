"""Vector addition and subtraction with a carry or borrow as a lane mask: the words of a wide number, one by one."""

from __future__ import annotations

from amdgcn.instructions.oracle import oracle

MASK = 0xFFFFFFFF


@oracle(
    "u32 m = u32 u32",
    cdna=["v_add_co_u32_e32 v1, vcc, v2, v3", "v_add_co_u32_e64 v2, s[0:1], v2, v6"],
    rdna=["v_add_co_u32 v3, s0, v3, v6", "v_add_co_u32 v3, vcc_lo, s3, v6", "v_add_co_u32 v3, null, v1, v6"],
)
def add_carry_out(a, b):
    """D = S0 + S1, and the carry as a mask."""
    return a + b, a + b > MASK


@oracle(
    "u32 m = u32 u32 m",
    cdna=[
        "v_addc_co_u32_e32 v4, vcc, v6, v4, vcc",
        "v_addc_co_u32_e64 v6, s[4:5], 0, v3, vcc",
        "v_addc_co_u32_e64 v6, s[4:5], v1, v3, s[6:7]",
    ],
    rdna=[
        "v_add_co_ci_u32_e64 v4, null, 0, v5, s0",
        "v_add_co_ci_u32_e64 v4, s3, v1, v2, s1",
        "v_add_co_ci_u32_e32 v4, vcc_lo, v1, v2, vcc_lo",
    ],
)
def add_carry(a, b, carry):
    """D = S0 + S1 + the lane's carry, and the carry out."""
    return a + b + carry, a + b + carry > MASK


@oracle(
    "u32 m = u32 u32",
    cdna=["v_sub_co_u32_e32 v1, vcc, v2, v3", "v_sub_co_u32_e64 v8, s[4:5], v4, v8"],
    rdna=["v_sub_co_u32 v8, s9, v7, s12", "v_sub_co_u32 v1, s0, v1, 1", "v_sub_co_u32 v0, vcc_lo, v2, v3"],
)
def subtract_borrow_out(a, b):
    """D = S0 - S1, and as a mask whether the difference is below 0."""
    return a - b, a < b


@oracle(
    "u32 m = u32 u32",
    cdna=["v_subrev_co_u32_e32 v1, vcc, v2, v3", "v_subrev_co_u32_e64 v9, s[6:7], s18, v7"],
    rdna=["v_subrev_co_u32 v9, s6, s18, v7", "v_subrev_co_u32 v9, null, v6, v7"],
)
def subtract_reversed_borrow_out(a, b):
    """D = S1 - S0, and the borrow."""
    return b - a, b < a


@oracle(
    "u32 m = u32 u32 m",
    cdna=["v_subb_co_u32_e32 v9, vcc, v2, v3, vcc", "v_subb_co_u32_e64 v9, s[6:7], v2, v3, s[4:5]"],
    rdna=[
        "v_sub_co_ci_u32_e64 v8, null, v13, v8, s9",
        "v_sub_co_ci_u32_e64 v8, s3, v1, v2, s9",
        "v_sub_co_ci_u32_e32 v8, vcc_lo, v1, v2, vcc_lo",
    ],
)
def subtract_borrow(a, b, borrow):
    """D = S0 - S1 - the lane's borrow, and the borrow out."""
    return a - b - borrow, a - b - borrow < 0


@oracle(
    "u32 m = u32 u32 m",
    cdna=["v_subbrev_co_u32_e32 v9, vcc, v2, v3, vcc", "v_subbrev_co_u32_e64 v9, s[6:7], 0, v9, s[6:7]"],
    rdna=[
        "v_subrev_co_ci_u32_e64 v9, null, s13, v9, s9",
        "v_subrev_co_ci_u32_e64 v9, s3, 0, v9, s9",
        "v_subrev_co_ci_u32_e32 v8, vcc_lo, v1, v2, vcc_lo",
    ],
)
def subtract_reversed_borrow(a, b, borrow):
    """D = S1 - S0 - the lane's borrow, and the borrow out."""
    return b - a - borrow, b - a - borrow < 0
