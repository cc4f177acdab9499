"""float32 arithmetic: add, multiply, fused multiply-add, extremes, scaling, and the approximate functions."""

from __future__ import annotations

import numpy as np
from amdgcn.instructions.exact import fma32, maximum, minimum
from amdgcn.instructions.oracle import oracle

RCP = 2.5 * 2.0**-24  # 1 ulp, of a result that lies anywhere in its binade
WAVE = "row_mask:0xf bank_mask:0xf bound_ctrl:1"


@oracle(
    "f32 = f32 f32",
    "v_add_f32_e32 v0, v1, v2",
    "v_add_f32_e32 v2, v1, v2",
    "v_add_f32_e32 v0, s3, v2",
    "v_add_f32_e32 v0, 1.0, v2",
    "v_add_f32_e32 v0, 1, v2",
    "v_add_f32_e32 v0, 0xff800000, v2",
    "v_add_f32_e64 v0, v1, v2",
    "v_add_f32_e64 v0, s1, 0",
    "v_add_f32_e64 v0, -v1, |v2|",
    "v_add_f32_e64 v0, -|v1|, v2 clamp",
    f"v_add_f32_dpp v4, v4, v4 row_shr:8 {WAVE}",
    f"v_add_f32_dpp v4, v4, v4 row_shr:1 {WAVE}",
    f"v_add_f32_dpp v4, v5, v4 row_ror:8 {WAVE}",
    cdna=[
        f"v_add_f32_dpp v0, v1, v0 quad_perm:[3,2,1,0] {WAVE}",
        f"v_add_f32_dpp v4, v4, v4 row_bcast:31 {WAVE}",
        "v_add_f32_dpp v4, v4, v4 row_bcast:15 row_mask:0xa bank_mask:0xf",
    ],
    rdna=[
        f"v_add_f32_dpp v0, v0, v0 row_xmask:4 {WAVE}",
        "v_dual_add_f32 v8, v12, v4 :: v_dual_add_f32 v5, v3, v9",
        "v_dual_add_f32 v2, v2, v3 :: v_dual_mul_f32 v3, v5, v2",
        "v_dual_add_f32 v5, 1.0, v19 :: v_dual_lshlrev_b32 v20, 16, v21",
        "v_dual_add_f32 v8, v12, v4 :: v_dual_and_b32 v1, 0xffff0000, v1",
    ],
    gfx1201=["s_add_f32 s0, s1, 0", "s_add_f32 s0, s1, s2"],
)
def add(a, b):
    """D = S0 + S1."""
    return a + b


@oracle(
    "f32 = f32 f32",
    "v_sub_f32_e32 v0, v1, v2",
    "v_sub_f32_e32 v0, 4.0, v2",
    gfx1201=["s_sub_f32 s3, s6, s7"],
    rdna=["v_dual_sub_f32 v6, v7, v8 :: v_dual_sub_f32 v3, v12, v5"],
)
def subtract(a, b):
    """D = S0 - S1."""
    return a - b


@oracle(
    "f32 = f32 f32",
    "v_subrev_f32_e32 v0, s1, v2",
    rdna=["v_dual_subrev_f32 v9, s2, v9 :: v_dual_lshlrev_b32 v8, 16, v18"],
)
def subtract_reversed(a, b):
    """D = S1 - S0."""
    return b - a


@oracle(
    "f32 = f32 f32",
    "v_mul_f32_e32 v0, v1, v2",
    "v_mul_f32_e32 v0, 0x3fb8aa3b, v2",
    "v_mul_f32_e64 v0, v1, s2",
    "v_mul_f32_e64 v0, -v1, |s2|",
    rdna=[
        "v_dual_mul_f32 v6, v2, v2 :: v_dual_mul_f32 v7, v4, v5",
        "v_dual_mul_f32 v6, s2, v2 :: v_dual_mov_b32 v7, v9",
    ],
    gfx1201=["s_mul_f32 s6, s3, 0x4f7ffffe", "s_mul_f32 s6, s3, s4"],
)
def multiply(a, b):
    """D = S0 * S1."""
    return a * b


@oracle(
    "f32 = f32 f32 f32",
    "v_fma_f32 v0, v1, v2, v3",
    "v_fma_f32 v0, -v1, v2, 1.0",
    "v_fma_f32 v0, v1, s2, -|v3|",
    "v_fmaak_f32 v0, v1, v2, 0x4b400000",
    rdna=[
        "v_fmaak_f32 v0, s5, v2, 0x4b400000",
        "v_dual_fmaak_f32 v0, s5, v1, 0x4b400000 :: v_dual_fmaak_f32 v3, s5, v6, 0x4b400000",
    ],
    gfx1201=["s_fmaak_f32 s1, s0, s2, 0xb9500d01"],
)
def fma(a, b, c):
    """D = S0 * S1 + S2, rounded once. (fmaak: the last source is a literal.)"""
    return fma32(a, b, c)


@oracle(
    "f32 = f32 f32 f32",
    "v_fmamk_f32 v7, v4, 0x37d00d01, v5",
    rdna=[
        "v_dual_fmamk_f32 v7, v3, 0x3a000000, v5 :: v_dual_fmamk_f32 v6, v4, 0x3a000000, v8",
    ],
)
def fmamk(a, k, c):
    """D = S0 * K + S1, rounded once."""
    return fma32(a, k, c)


@oracle(
    "f32 = f32 f32 d.f32",
    "v_fmac_f32_e32 v0, v1, v2",
    "v_fmac_f32_e32 v0, s1, v0",
    "v_fmac_f32_e64 v8, s0, 0",
    "v_fmac_f32_e64 v8, -v1, |v2|",
    gfx1201=["s_fmac_f32 s4, s3, 0x3fb8aa3b", "s_fmac_f32 s4, s3, s5"],
    rdna=[
        "v_dual_fmac_f32 v6, v1, v2 :: v_dual_fmac_f32 v7, v3, v4",
        "v_dual_fmaak_f32 v3, s16, v3, 0x4b400000 :: v_dual_fmac_f32 v4, v5, v9",
    ],
)
def fmac(a, b, d):
    """D = S0 * S1 + D, rounded once."""
    return fma32(a, b, d)


@oracle(
    "f32 = f32 f32",
    gfx11=["v_max_f32_e32 v0, v1, v2", "v_max_f32_e32 v0, v2, v2", "v_max_f32_e64 v0, |v1|, |v2|"],
    gfx1100=["v_dual_max_f32 v4, v2, v9 :: v_dual_max_f32 v3, v3, v6"],
)
def max_ieee(a, b):
    """D = max(S0, S1); a number before a NaN, but a signalling NaN becomes quiet: kernels run in IEEE mode."""
    return maximum(a, b, ieee=True)


@oracle(
    "f32 = f32 f32",
    gfx11=["v_min_f32_e64 v9, |v9|, s7", "v_min_f32_e64 v9, v1, v2"],
    gfx1100=["v_min_f32_e64 v9, 0x43e00000, |v9|"],
)
def min_ieee(a, b):
    """D = min(S0, S1), of NaNs as `max_ieee`."""
    return -maximum(-a, -b, ieee=True)


@oracle(
    "f32 = f32 f32",
    gfx1201=[
        "v_max_num_f32_e32 v0, v1, v2",
        "s_max_num_f32 s7, s7, 0xff800000",
        "s_max_num_f32 s7, s6, s5",
        "v_max_num_f32_e32 v0, v2, v2",
        "v_max_num_f32_e64 v15, |v12|, |v9|",
        "v_dual_max_num_f32 v4, v2, v9 :: v_dual_max_num_f32 v3, v3, v6",
    ],
    quiet=True,
)
def max_num(a, b):
    """D = maximumNumber(S0, S1) of IEEE 754-2019: a number before any NaN, +0 before -0."""
    return maximum(a, b)


@oracle("f32 = f32 f32", gfx1201=["v_min_num_f32_e64 v9, 0x43e00000, |v9|", "v_min_num_f32_e64 v9, v1, v2"], quiet=True)
def min_num(a, b):
    """D = minimumNumber(S0, S1) of IEEE 754-2019: a number before any NaN, -0 before +0."""
    return minimum(a, b)


@oracle(
    "f32 = f32 f32 f32",
    gfx11=["v_max3_f32 v0, v1, v2, v3", "v_max3_f32 v0, v1, s2, |v3|"],
    gfx1201=["v_max3_num_f32 v0, v1, v2, v3"],
    quiet=True,
)
def max3(a, b, c):
    """D = max(max(S0, S1), S2)."""
    return maximum(maximum(a, b), c)


@oracle(
    "f32 = f32 f32 f32",
    gfx11=["v_med3_f32 v0, v1, v2, v3"],
    cdna=["v_med3_f32 v6, v2, s7, v11"],
    gfx1100=["v_med3_f32 v1, v1, s10, 0x42fe0000"],
    gfx1201=["v_med3_num_f32 v0, v1, v2, v3", "v_med3_num_f32 v5, v5, s12, 0x42fe0000"],
    quiet=True,
)
def med3(a, b, c):
    """D = the larger of the two that are left without the largest (the first equal to it); min3 if any is NaN."""
    largest = maximum(maximum(a, b), c)
    middle = np.where(largest == a, maximum(b, c), np.where(largest == b, maximum(a, c), maximum(a, b)))
    return np.where(np.isnan(a) | np.isnan(b) | np.isnan(c), minimum(minimum(a, b), c), middle)


@oracle("f32 = f32 i32", "v_ldexp_f32 v0, v1, v2", "v_ldexp_f32 v0, -v1, -2", "v_ldexp_f32 v0, v1, 64")
def ldexp(a, n):
    """D = S0 * 2 ** S1."""
    return np.ldexp(a.astype(np.float64), np.clip(n, -500, 500).astype(np.int32)).astype(np.float32)


@oracle("f32 = f32", "v_trunc_f32_e32 v3, v3", gfx1201=["s_trunc_f32 s4, s3"])
def trunc(a):
    """D = the integer nearest to S0 on the side of 0, with the sign of S0."""
    return np.trunc(a)


@oracle(
    "f32 = f32",
    "v_rcp_f32_e32 v0, v1",
    "v_rcp_iflag_f32_e32 v0, v1",
    gfx1201=["v_s_rcp_f32 s3, s2"],
    near=RCP,
    flush=True,
)
def rcp(a):
    """D = 1 / S0, within 1 ulp."""
    return (1 / a.astype(np.float64)).astype(np.float32)


@oracle("f32 = f32", "v_rsq_f32_e32 v0, v1", near=RCP, flush=True)
def rsq(a):
    """D = 1 / sqrt(S0), within 1 ulp."""
    return (1 / np.sqrt(a.astype(np.float64))).astype(np.float32)


@oracle("f32 = f32", "v_exp_f32_e32 v0, v1", gfx1201=["v_s_exp_f32 s3, s4"], near=RCP, flush=True)
def exp(a):
    """D = 2 ** S0, within 1 ulp."""
    return np.exp2(a.astype(np.float64)).astype(np.float32)


@oracle("f32 = f32", "v_log_f32_e32 v0, v1", near=RCP, flush=True)
def log(a):
    """D = log2(S0), within 1 ulp."""
    return np.log2(a.astype(np.float64)).astype(np.float32)
