"""Comparisons into a lane mask, selection by one, and moves."""

from __future__ import annotations

import operator

import numpy as np
from amdgcn.instructions.oracle import oracle

WAVE = "row_mask:0xf bank_mask:0xf bound_ctrl:1"
DWORD = "dst_sel:DWORD dst_unused:UNUSED_PAD"


def unordered(a, b):
    return np.isnan(a) | np.isnan(b)


RELATIONS = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "lg": lambda a, b: (a < b) | (a > b),  # less or greater: false for NaN
    "neq": lambda a, b: ~(a == b),  # not equal: true for NaN
    "o": lambda a, b: ~unordered(a, b),
    "u": unordered,
}
WANTED = {
    "f32": ("eq", "lt", "gt", "lg", "neq", "o", "u"),
    "i32": ("lt", "gt", "ge"),
    "u32": ("eq", "ne", "lt", "le", "gt", "ge"),
}

for _type, _names in WANTED.items():
    for _name in _names:
        _op = f"v_cmp_{_name}_{_type}"
        _literal = "0xff800000" if _type == "f32" else "0x7fffffff"
        oracle(
            f"m = {_type} {_type}",
            cdna=[
                f"{_op}_e32 vcc, v1, v2",
                f"{_op}_e32 vcc, {_literal}, v2",
                f"{_op}_e64 s[2:3], v1, v2",
                f"{_op}_e64 s[2:3], s6, v2",
            ],
            rdna=[
                f"{_op}_e32 vcc_lo, v1, v2",
                f"{_op}_e32 vcc_lo, {_literal}, v2",
                f"{_op}_e64 s2, v1, v2",
                f"{_op}_e64 s2, {_literal}, v2",
            ],
        )(RELATIONS[_name])

oracle(
    "m = f16 f16",
    cdna=[
        "v_cmp_o_f16_e32 vcc, v1, v2",
        "v_cmp_o_f16_e64 s[4:5], v6, v6",
        "v_cmp_o_f16_sdwa s[4:5], v6, v7 src0_sel:WORD_1 src1_sel:WORD_1",
        "v_cmp_o_f16_sdwa vcc, v6, v7 src0_sel:WORD_0 src1_sel:WORD_1",
    ],
    rdna=["v_cmp_o_f16_e32 vcc_lo, v4.l, v5.h", "v_cmp_o_f16_e64 s9, v7.l, v7.l", "v_cmp_o_f16_e64 s9, v7.h, v8.l"],
)(RELATIONS["o"])
oracle("m = u16 u16", rdna=["v_cmp_eq_u16_e64 s3, 1, v3.l", "v_cmp_eq_u16_e64 s3, v2.h, v3.h"])(operator.eq)
oracle(
    "m = u16 u16",
    cdna=["v_cmp_gt_u16_e32 vcc, 2, v1", "v_cmp_gt_u16_e32 vcc, v2, v1", "v_cmp_gt_u16_e64 s[2:3], 2, v4"],
    rdna=["v_cmp_gt_u16_e32 vcc_lo, 2, v6.l", "v_cmp_gt_u16_e64 s3, 2, v4.l", "v_cmp_gt_u16_e64 s3, v2.h, v4.l"],
)(operator.gt)
oracle(
    "m = i64 i64",
    cdna=["v_cmp_gt_i64_e32 vcc, s[18:19], v[6:7]", "v_cmp_gt_i64_e64 s[8:9], v[2:3], v[6:7]"],
    rdna=["v_cmp_gt_i64_e32 vcc_lo, s[8:9], v[6:7]", "v_cmp_gt_i64_e64 s8, v[2:3], v[6:7]"],
)(operator.gt)
oracle("exec = u32 u32", rdna=["v_cmpx_ne_u32_e32 0, v3", "v_cmpx_ne_u32_e32 v4, v5"])(operator.ne)
oracle("exec = u32 u32", rdna=["v_cmpx_eq_u32_e32 0, v5", "v_cmpx_eq_u32_e32 v4, v5"])(operator.eq)
oracle("exec = i32 i32", rdna=["v_cmpx_gt_i32_e64 s19, v1", "v_cmpx_gt_i32_e64 v2, v1"])(operator.gt)


@oracle(
    "b32 = b32 b32 m",
    cdna=[
        "v_cndmask_b32_e32 v1, v9, v1, vcc",
        "v_cndmask_b32_e32 v1, 1.0, v1, vcc",
        "v_cndmask_b32_e64 v3, v6, v3, s[0:1]",
        "v_cndmask_b32_e64 v3, 0, 1, s[0:1]",
        "v_cndmask_b32_e64 v3, v8, v4, vcc",
        f"v_cndmask_b32_sdwa v0, v9, v0, vcc {DWORD} src0_sel:DWORD src1_sel:WORD_1",
    ],
    rdna=[
        "v_cndmask_b32_e32 v5, 0x80000000, v3, vcc_lo",
        "v_cndmask_b32_e64 v8, 0x80000000, v3, s0",
        "v_cndmask_b32_e64 v8, v1, v3, vcc_lo",
        "v_cndmask_b32_e64 v8, 0, 1, s3",
        "v_dual_cndmask_b32 v1, 0x80000000, v1 :: v_dual_cndmask_b32 v4, 0x80000000, v0",
        "v_dual_cndmask_b32 v3, v5, v7 :: v_dual_lshlrev_b32 v8, 12, v18",
        "v_dual_cndmask_b32 v1, 0x7fc00000, v4 :: v_dual_add_nc_u32 v10, 0, v5",
    ],
)
def select(a, b, mask):
    """D = the lane's bit ? S1 : S0."""
    return np.where(mask, b, a)


@oracle("b16 = b16 b16 m", rdna=["v_cndmask_b16 v0.h, 0x7fff, v0.l, vcc_lo", "v_cndmask_b16 v0.l, v1.h, v2.l, s3"])
def select16(a, b, mask):
    return np.where(mask, b, a)


@oracle(
    "b32 = b32",
    "v_mov_b32_e32 v5, s2",
    "v_mov_b32_e32 v5, 0x12345678",
    "v_mov_b32_e32 v5, -4.0",
    "v_mov_b32_e32 v5, v5",
    f"v_mov_b32_dpp v3, v7 row_shr:8 {WAVE}",
    "v_mov_b32_dpp v3, v7 row_shr:3 row_mask:0xf bank_mask:0xf",
    f"v_mov_b32_dpp v3, v7 row_shl:2 {WAVE}",
    f"v_mov_b32_dpp v3, v7 row_ror:5 {WAVE}",
    f"v_mov_b32_dpp v3, v7 row_mirror {WAVE}",
    f"v_mov_b32_dpp v3, v7 row_half_mirror {WAVE}",
    f"v_mov_b32_dpp v3, v7 quad_perm:[3,2,1,0] {WAVE}",
    "v_mov_b32_dpp v3, v7 quad_perm:[0,0,2,1] row_mask:0x1 bank_mask:0x6",
    "v_mov_b32_dpp v3, v7 row_shr:1 row_mask:0x2 bank_mask:0x9 bound_ctrl:1",
    cdna=[
        "v_mov_b32_dpp v5, v5 row_bcast:15 row_mask:0xa bank_mask:0xf bound_ctrl:1",
        "v_mov_b32_dpp v5, v4 row_bcast:31 row_mask:0xc bank_mask:0xf",
        "v_mov_b32_dpp v5, v4 row_bcast:15 row_mask:0xf bank_mask:0xf",
        f"v_mov_b32_dpp v5, v4 row_newbcast:7 {WAVE}",
    ],
    rdna=[
        f"v_mov_b32_dpp v3, v7 row_xmask:4 {WAVE}",
        f"v_mov_b32_dpp v3, v7 row_share:11 {WAVE}",
        f"v_mov_b32_dpp v3, v7 row_xmask:15 {WAVE} fi:1",
        "v_mov_b32_dpp v3, v7 row_shr:15 row_mask:0xf bank_mask:0xf fi:1",
        "v_dual_mov_b32 v5, v8 :: v_dual_mul_f32 v4, v7, v7",
        "v_dual_mov_b32 v4, v5 :: v_dual_mov_b32 v5, v4",
        "v_dual_mov_b32 v5, 0x8000 :: v_dual_and_b32 v8, 3, v0",
        "v_dual_mov_b32 v4, s5 :: v_dual_mov_b32 v5, 0",
    ],
)
def move(a):
    return a


@oracle("b32 = b32", cdna=["v_accvgpr_read_b32 v8, a5", "v_accvgpr_write_b32 a9, v7", "v_accvgpr_write_b32 a9, 1.0"])
def move_accumulator(a):
    """Between ordinary and accumulation registers."""
    return a


@oracle("b64 = b64", cdna=["v_mov_b64_e32 v[2:3], v[6:7]"])
def move64(a):
    return a


@oracle(
    "b16 = b16",
    rdna=[
        "v_mov_b16_e32 v9.l, v3.l",
        "v_mov_b16_e32 v9.h, v3.l",
        "v_mov_b16_e64 v13.h, v17.l",
        "v_mov_b16_e64 v13.l, v17.h",
    ],
)
def move16(a):
    return a
