"""Scalar arithmetic and what it leaves in SCC."""

from __future__ import annotations

import operator

import numpy as np
from amdgcn.instructions.oracle import oracle

LOW, TOP = -(2**31), 2**31 - 1


def overflows(value):
    """Of an exact result that must fit an int32."""
    return (value < LOW) | (value > TOP)


@oracle(
    "i32 scc = i32 i32",
    gfx11=["s_add_i32 s1, s1, s0", "s_add_i32 s1, s2, 0x7fffffff"],
    gfx1201=["s_add_co_i32 s0, s0, s14", "s_add_co_i32 s0, s1, -1"],
)
def add(a, b):
    """D = S0 + S1; SCC = signed overflow."""
    return a + b, overflows(a + b)


@oracle("i32 scc = i32 i32", gfx11=["s_sub_i32 s3, s11, s10"], gfx1201=["s_sub_co_i32 s15, s19, s18"])
def subtract(a, b):
    return a - b, overflows(a - b)


@oracle(
    "i32 scc = i32 d.i32",
    gfx11=["s_addk_i32 s7, 0x80", "s_addk_i32 s7, 0x8000"],
    gfx1201=["s_addk_co_i32 s8, 0x80", "s_addk_co_i32 s8, 0xfff0"],
)
def add_constant(k, d):
    """D = D + the sign-extended 16 bits; SCC = signed overflow."""
    k = signed16(k)
    return d + k, overflows(d + k)


def signed16(k):
    return ((k & 0xFFFF) ^ 0x8000) - 0x8000


@oracle(
    "u32 scc = u32 u32",
    gfx11=["s_add_u32 s4, s4, s0", "s_add_u32 s4, s5, -1"],
    gfx1201=["s_add_co_u32 s4, s4, s0", "s_add_co_u32 s4, s5, -1"],
)
def add_unsigned(a, b):
    """SCC = carry."""
    return a + b, a + b >> 32


@oracle(
    "u32 scc = u32 u32 scc",
    gfx11=["s_addc_u32 s5, s5, s1", "s_addc_u32 s5, s2, 0"],
    gfx1201=["s_add_co_ci_u32 s5, s5, s1", "s_add_co_ci_u32 s5, s2, 0"],
)
def add_carry(a, b, scc):
    return a + b + scc, a + b + scc >> 32


@oracle("u32 scc = u32 u32", gfx11=["s_sub_u32 s4, 0, s18", "s_sub_u32 s4, s5, s6"])
def subtract_unsigned(a, b):
    """SCC = borrow: the exact difference is below 0."""
    return a - b, a - b < 0


@oracle("u32 scc = u32 u32 scc", gfx11=["s_subb_u32 s5, 0, s19", "s_subb_u32 s5, s6, s7"])
def subtract_borrow(a, b, scc):
    """D = S0 - S1 - SCC; SCC = borrow."""
    return a - b - scc, a - b - scc < 0


@oracle("u64 = u64 u64", gfx1201=["s_sub_nc_u64 s[2:3], 0, s[8:9]", "s_sub_nc_u64 s[2:3], s[4:5], s[8:9]"])
def subtract64(a, b):
    return a - b


@oracle("u64 = u64 u64", gfx1201=["s_add_nc_u64 s[0:1], s[0:1], s[4:5]"])
def add64(a, b):
    return a + b


@oracle("u64 = u64 u64", gfx1201=["s_mul_u64 s[10:11], s[10:11], s[4:5]"])
def multiply64(a, b):
    return a * b


@oracle("u32 = u32 u32", "s_mul_i32 s10, s10, s16", "s_mul_i32 s10, s11, 0x12345")
def multiply(a, b):
    return (a.astype(np.uint64) * b.astype(np.uint64)).view(np.int64)


@oracle("i32 = i32 d.i32", "s_mulk_i32 s6, 0x380", "s_mulk_i32 s6, 0xfff0")
def multiply_constant(k, d):
    return d * signed16(k)


@oracle("u32 = u32 u32", "s_mul_hi_u32 s9, s10, s8")
def multiply_high(a, b):
    return (a.astype(np.uint64) * b.astype(np.uint64) >> np.uint64(32)).astype(np.int64)


@oracle("i32 = i32 i32", "s_mul_hi_i32 s7, s6, s17")
def multiply_high_signed(a, b):
    return a * b >> 32


@oracle("i32 = u32", "s_movk_i32 s8, 0x7fff", "s_movk_i32 s8, 0x8001")
def move_constant(k):
    return signed16(k)


@oracle(
    "b32 = b32",
    "s_mov_b32 s7, 0x27000",
    "s_mov_b32 s7, s4",
    "s_mov_b32 s7, -16",
    "s_mov_b32 s7, 0.5",
    "s_mov_b32 m0, s3",
    "s_mov_b32 vcc_hi, s3",
    "s_mov_b32 s3, m0",
)
def move(a):
    return a


@oracle(
    "b64 = b64",
    "s_mov_b64 s[0:1], s[2:3]",
    "s_mov_b64 s[0:1], -1",
    "s_mov_b64 s[0:1], 0",
    "s_mov_b64 s[0:1], exec",
    "s_mov_b64 s[0:1], 1.0",
    cdna=["s_mov_b64 vcc, s[4:5]"],
)
def move64(a):
    return a


@oracle("i32 scc = i32", "s_abs_i32 s6, s3", "s_abs_i32 s7, ttmp9")
def absolute(a):
    """D = |S0|; SCC = D is not 0."""
    return abs(a), a != 0


BITWISE = {"and": operator.and_, "or": operator.or_, "xor": operator.xor, "andn2": lambda a, b: a & ~b}
for _name, _apply in BITWISE.items():

    def _bitwise(a, b, apply=_apply):
        """SCC = the result is not 0."""
        return apply(a, b), apply(a, b) != 0

    _new = _name.replace("andn2", "and_not1")
    oracle(
        "b32 scc = b32 b32",
        cdna=[f"s_{_name}_b32 s2, s2, s5", f"s_{_name}_b32 s2, s3, 0xc0"],
        rdna=[f"s_{_new}_b32 s2, s2, s5", f"s_{_new}_b32 s2, s3, 31", f"s_{_new}_b32 s2, vcc_lo, exec_lo"],
    )(_bitwise)
    oracle(
        "b64 scc = b64 b64",
        cdna=[
            f"s_{_name}_b64 s[2:3], s[8:9], s[4:5]",
            f"s_{_name}_b64 s[0:1], s[2:3], vcc",
            f"s_{_name}_b64 s[2:3], s[8:9], exec",
        ],
        rdna=[f"s_{_new}_b64 s[2:3], s[8:9], s[4:5]"],
    )(_bitwise)


@oracle("b32 scc = b32", "s_not_b32 s6, s16")
def invert(a):
    return ~a, ~a != 0


@oracle("b64 exec.b64 scc = b64 exec.b64", cdna=["s_and_saveexec_b64 s[0:1], vcc", "s_and_saveexec_b64 s[0:1], s[0:1]"])
def and_saveexec(a, exec):
    """D = EXEC; EXEC = S0 & EXEC; SCC = it is not 0."""
    return exec, a & exec, (a & exec) != 0


@oracle("b32 exec.b32 scc = b32 exec.b32", rdna=["s_and_saveexec_b32 s9, s8", "s_and_saveexec_b32 s9, vcc_lo"])
def and_saveexec32(a, exec):
    return exec, a & exec, (a & exec) != 0


@oracle(
    "b64 exec.b64 scc = b64 exec.b64",
    cdna=["s_andn2_saveexec_b64 s[6:7], s[14:15]", "s_andn2_saveexec_b64 s[0:1], vcc"],
)
def and_not_saveexec(a, exec):
    """D = EXEC; EXEC = S0 & ~EXEC; SCC = it is not 0."""
    return exec, a & ~exec, (a & ~exec) != 0


@oracle(
    "b32 exec.b32 scc = b32 exec.b32", rdna=["s_and_not1_saveexec_b32 s10, s16", "s_and_not1_saveexec_b32 s9, vcc_lo"]
)
def and_not_saveexec32(a, exec):
    return exec, a & ~exec, (a & ~exec) != 0


@oracle("b32 exec.b32 scc = b32 exec.b32", rdna=["s_or_saveexec_b32 s10, s16", "s_or_saveexec_b32 s9, vcc_lo"])
def or_saveexec32(a, exec):
    return exec, a | exec, (a | exec) != 0


@oracle("b64 exec.b64 scc = b64 exec.b64", cdna=["s_or_saveexec_b64 s[6:7], s[0:1]"])
def or_saveexec(a, exec):
    return exec, a | exec, (a | exec) != 0


@oracle("u32 scc = u32 u32", "s_lshl_b32 s3, s17, 10", "s_lshl_b32 s3, s4, s5")
def shift_left(a, n):
    """D = S0 << S1[4:0]; SCC = D is not 0."""
    d = a << (n & 31) & 0xFFFFFFFF
    return d, d != 0


@oracle("u64 scc = u64 u32", "s_lshl_b64 s[0:1], s[0:1], 2", "s_lshl_b64 s[0:1], s[2:3], s4")
def shift_left64(a, n):
    d = a << (n & 63).astype(np.uint64)
    return d, d != 0


@oracle("u32 scc = u32 u32", "s_lshr_b32 s2, s2, 4", "s_lshr_b32 s3, s4, s5")
def shift_right(a, n):
    return a >> (n & 31), a >> (n & 31) != 0


@oracle("i32 scc = i32 u32", "s_ashr_i32 s1, s0, 31", "s_ashr_i32 s3, s4, s5")
def shift_right_signed(a, n):
    return a >> (n & 31), a >> (n & 31) != 0


def _shift_add(n: int):
    @oracle("u32 scc = u32 u32", f"s_lshl{n}_add_u32 s9, s6, s7", f"s_lshl{n}_add_u32 s9, s6, 0")
    def shift_add(a, b):
        """D = (S0 << n) + S1; SCC = the exact sum needs more than 32 bits."""
        return (a << n) + b, (a << n) + b > 0xFFFFFFFF


for _n in (1, 2, 3):
    _shift_add(_n)


@oracle(
    "u32 scc = u32 u32", "s_bfe_u32 s2, s17, 0x10007", "s_bfe_u32 s2, s3, s4", rdna=["s_bfe_u32 s2, ttmp8, 0x50019"]
)
def extract(a, how):
    """D = S1[22:16] bits of S0 from S1[4:0] on; SCC = D is not 0."""
    d = a >> (how & 31) & (1 << np.minimum(how >> 16 & 127, 40)) - 1
    return d, d != 0


@oracle(
    "i32 scc = i32 u32",
    "s_bfe_i32 s0, s0, 0x10015",
    "s_bfe_i32 s15, s3, 0x10005",
    "s_bfe_i32 s15, s3, 0x180004",
    "s_bfe_i32 s15, s3, 0x200000",
    "s_bfe_i32 s15, s3, 0x1f0010",
)
def extract_signed(a, how):
    width = how >> 16 & 127
    sign = (1 << width) >> 1
    field = (a >> (how & 31)) & (1 << width) - 1
    d = (field ^ sign) - sign
    return d, d != 0


@oracle("i32 scc = i32 i32", "s_min_i32 s0, s0, s11", "s_min_i32 s0, s1, 0x41")
def smaller(a, b):
    """SCC = S0 is the smaller."""
    return np.minimum(a, b), a < b


@oracle("i32 scc = i32 i32", "s_max_i32 s0, s0, 0", "s_max_i32 s0, s1, s2")
def larger(a, b):
    """SCC = S0 is the larger."""
    return np.maximum(a, b), a >= b


@oracle("scc = u32 u32", "s_bitcmp0_b32 s5, 7", "s_bitcmp0_b32 s5, s6")
def bit_is_0(a, n):
    return a >> (n & 31) & 1 == 0


RELATIONS = {"eq": operator.eq, "lg": operator.ne, "lt": operator.lt, "gt": operator.gt, "ge": operator.ge}
for _name, _type in (
    ("eq", "u32"),
    ("ge", "u32"),
    ("lg", "u32"),
    ("lt", "u32"),
    ("gt", "u32"),
    ("gt", "i32"),
    ("lt", "i32"),
    ("ge", "i32"),
):
    oracle(
        f"scc = {_type} {_type}",
        f"s_cmp_{_name}_{_type} s4, 0",
        f"s_cmp_{_name}_{_type} s4, s5",
        f"s_cmp_{_name}_{_type} s4, 0xffff8000",
    )(RELATIONS[_name])

oracle("scc = f32 f32", gfx1201=["s_cmp_lt_f32 s2, 0xc2fc0000", "s_cmp_lt_f32 s2, s3"])(operator.lt)
oracle("scc = f32 f32", gfx1201=["s_cmp_neq_f32 s7, 0xff800000", "s_cmp_neq_f32 s7, s3"])(lambda a, b: ~(a == b))
oracle("scc = i32 i32", gfx11=["s_cmpk_lg_i32 s2, 0x1c0", "s_cmpk_lg_i32 s2, 0xffff"])(lambda a, k: a != signed16(k))
oracle("scc = i32 i32", gfx11=["s_cmpk_gt_i32 s2, 0x7ff", "s_cmpk_gt_i32 s2, 0xffff"])(lambda a, k: a > signed16(k))
oracle("scc = u32 u32", gfx11=["s_cmpk_lt_u32 s2, 0xa0", "s_cmpk_lt_u32 s2, 0xffff"])(operator.lt)


@oracle("b32 = b32 b32 scc", "s_cselect_b32 s0, s4, s14", "s_cselect_b32 s2, -1, 0")
def select(a, b, scc):
    return np.where(scc, a, b)


@oracle("b64 = b64 b64 scc", cdna=["s_cselect_b64 s[0:1], -1, 0", "s_cselect_b64 s[0:1], s[4:5], s[6:7]"])
def select64(a, b, scc):
    return np.where(scc, a, b)
