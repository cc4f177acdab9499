"""Packed and mixed-precision arithmetic (VOP3P), dot products and byte permutation."""

from __future__ import annotations

import numpy as np
from amdgcn.instructions.exact import fma32
from amdgcn.instructions.oracle import oracle

MIXES = (
    "v1, v2, v3 op_sel_hi:[1,1,1]",
    "v1, v2, v3",
    "v3, v2, v3 op_sel:[0,0,1] op_sel_hi:[0,1,1]",
    "v9, 1.0, v1 op_sel:[1,0,0] op_sel_hi:[1,1,0]",
    "v2, v0, neg(0) op_sel:[1,0,0] op_sel_hi:[1,0,0]",
    "v8, v5, -v10",
    "-|v8|, v5, -v10 op_sel:[0,1,0] op_sel_hi:[1,1,0]",
    "v1, s2, v3 op_sel_hi:[1,0,0]",
)


@oracle("f32 = mix mix mix", *(f"v_fma_mix_f32 v0, {m}" for m in MIXES), "v_fma_mix_f32 v0, v1, v2, v3 clamp")
def mix(a, b, c):
    """D = S0 * S1 + S2 of f16 and f32 sources, rounded once to f32."""
    return fma32(a, b, c)


@oracle("lo = mix mix mix", *(f"v_fma_mixlo_f16 v0, {m}" for m in MIXES))
def mixlo(a, b, c):
    """D.lo = f16 of the f32 result; the upper half stays."""
    return fma32(a, b, c).astype(np.float16)


@oracle("hi = mix mix mix", *(f"v_fma_mixhi_f16 v0, {m}" for m in MIXES))
def mixhi(a, b, c):
    """D.hi = f16 of the f32 result; the lower half stays."""
    return fma32(a, b, c).astype(np.float16)


HALVES = (
    "",
    " op_sel_hi:[1,0]",
    " op_sel_hi:[0,1]",
    " op_sel:[1,0] op_sel_hi:[0,1]",
    " op_sel_hi:[1,0] neg_lo:[0,1] neg_hi:[0,1]",
    " neg_lo:[1,0]",
    " neg_hi:[1,1]",
)


@oracle("pk.f16 = pk.f16 pk.f16", *(f"v_pk_add_f16 v0, v1, v2{h}" for h in HALVES), "v_pk_add_f16 v0, v0, v4")
def add16(a, b):
    """D.lo = S0.lo + S1.lo, D.hi = S0.hi + S1.hi, halves chosen by op_sel and op_sel_hi."""
    return (a.astype(np.float32) + b.astype(np.float32)).astype(np.float16)


@oracle(
    "pk.f16 = pk.f16 pk.f16",
    *(f"v_pk_mul_f16 v0, v1, v2{h}" for h in HALVES),
    rdna=["v_pk_mul_f16 v3, 0x4200, v3 op_sel_hi:[0,1]"],
)
def multiply16(a, b):
    return (a.astype(np.float32) * b.astype(np.float32)).astype(np.float16)


@oracle("pk.f32 = pk.f32 pk.f32", cdna=[f"v_pk_add_f32 v[0:1], v[2:3], v[4:5]{h}" for h in HALVES])
def add32(a, b):
    return a + b


@oracle(
    "pk.f32 = pk.f32 pk.f32",
    cdna=[
        *(f"v_pk_mul_f32 v[0:1], v[2:3], v[4:5]{h}" for h in HALVES),
        "v_pk_mul_f32 v[0:1], v[2:3], s[4:5] op_sel_hi:[1,0]",
    ],
)
def multiply32(a, b):
    return a * b


@oracle(
    "pk.f32 = pk.f32 pk.f32 pk.f32",
    cdna=[
        f"v_pk_fma_f32 v[0:1], v[2:3], v[4:5], v[6:7]{m}"
        for m in ("", " op_sel:[0,0,1]", " op_sel_hi:[0,1,0]", " op_sel_hi:[0,1,0] neg_lo:[0,0,1] neg_hi:[0,0,1]")
    ],
)
def pk_fma(a, b, c):
    return fma32(a, b, c)


@oracle("pk.b16 = pk.b16 pk.b16", cdna=["v_pk_lshrrev_b16 v7, 8, v9 op_sel_hi:[0,1]", "v_pk_lshrrev_b16 v7, v1, v9"])
def pk_shift(n, a):
    """D = S1 >> S0[3:0] in each half."""
    return a >> (n & 15)


@oracle("pk.b16 = pk.b16 pk.b16", cdna=["v_pk_ashrrev_i16 v7, 8, v9 op_sel_hi:[0,1]", "v_pk_ashrrev_i16 v7, v1, v9"])
def pk_shift_signed(n, a):
    """D = S1 >> S0[3:0] in each half, copies of the sign from above."""
    return (a ^ 0x8000) - 0x8000 >> (n & 15)


@oracle("pk.b16 = pk.b16 pk.b16", "v_pk_lshlrev_b16 v7, 4, v9 op_sel_hi:[0,1]", "v_pk_lshlrev_b16 v7, v1, v9")
def pk_shift_left(n, a):
    """D = S1 << S0[3:0] in each half."""
    return a << (n & 15)


@oracle(
    "pk.b16 = pk.b16 pk.b16", cdna=["v_pk_add_u16 v5, v1, v5", "v_pk_add_u16 v5, v1, v2 op_sel:[1,0] op_sel_hi:[0,1]"]
)
def pk_add(a, b):
    """D = S0 + S1 in each half, no carry between them."""
    return a + b


PAIRS = ("", " op_sel:[1,0]", " op_sel:[0,1]", " op_sel:[1,1]")


@oracle("u64 = u64 u64", cdna=[f"v_pk_mov_b32 v[6:7], v[2:3], v[4:5]{s}" for s in PAIRS], modified=True)
def pk_mov(part, a, b):
    """D.lo = the dword of S0, D.hi = the one of S1, that op_sel names."""
    low, high = (np.uint64(32 * s) for s in part.bits("op_sel", 0, 2))
    full = np.uint64(0xFFFFFFFF)
    return a >> low & full | (b >> high & full) << np.uint64(32)


@oracle(
    "b32 = f16 f16",
    cdna=["v_pack_b32_f16 v0, v1, v2", "v_pack_b32_f16 v0, v0, v1"],
    rdna=["v_pack_b32_f16 v2, v7.l, v8.l", "v_pack_b32_f16 v2, v7.h, v8.l"],
    quiet=True,
)
def pack(a, b):
    """D = {S1.f16, S0.f16}."""
    return b.view(np.uint16).astype(np.uint32) << np.uint32(16) | a.view(np.uint16)


def signed_bytes(x, signed: bool):
    """int64[..., 4]."""
    lanes = [x >> 8 * k & 0xFF for k in range(4)]
    return [np.where(b > 127, b - 256, b) if signed else b for b in lanes]


def dot(a, b, c, signed_a: bool, signed_b: bool):
    """S2 + the sum of four products of bytes."""
    pairs = zip(signed_bytes(a, signed_a), signed_bytes(b, signed_b), strict=True)
    return c + sum(x * y for x, y in pairs)


@oracle(
    "i32 = u32 u32 i32",
    cdna=["v_dot4_i32_i8 v9, v9, v10, v8", "v_dot4_i32_i8 v0, v1, v2, v0", "v_dot4_i32_i8 v0, v1, v2, v3 clamp"],
)
def dot4(a, b, c):
    return dot(a, b, c, True, True)


SIGNS = ("", " neg_lo:[1,0,0]", " neg_lo:[0,1,0]", " neg_lo:[1,1,0]")


@oracle(
    "i32 = u32 u32 i32",
    rdna=[f"v_dot4_i32_iu8 v7, v3, v4, v7{s}" for s in SIGNS]
    + [f"v_dot4_i32_iu8 v0, v1, v2, v3{s} clamp" for s in SIGNS],
    modified=True,
)
def dot4_iu8(part, a, b, c):
    """neg_lo says which of the two holds signed bytes."""
    signed_a, signed_b, _ = part.bits("neg_lo", 0, 3)
    return dot(a, b, c, bool(signed_a), bool(signed_b))


@oracle("b32 = b32 b32 b32", "v_perm_b32 v0, v1, v2, v3", "v_perm_b32 v0, v1, v0, s9", "v_perm_b32 v0, v1, v2, 12")
def perm(high, low, selector):
    """Each byte of D by the byte of S2: 0-3 a byte of S1, 4-7 of S0, 8-11 the sign of byte 1, 3, 5, 7, 12 zero.

    Beyond 12 it is ff.
    """
    pair = high.astype(np.uint64) << np.uint64(32) | low
    byte = [pair >> np.uint64(8 * k) & np.uint64(0xFF) for k in range(8)]
    byte += [np.where(byte[k] > 127, 255, 0) for k in (1, 3, 5, 7)]
    byte += [np.zeros_like(pair)]
    out = np.zeros(np.broadcast_shapes(pair.shape, selector.shape), np.uint32)
    for k in range(4):
        code = selector >> np.uint32(8 * k) & np.uint32(0xFF)
        chosen = np.full(out.shape, 255)
        for value, source in enumerate(byte):
            chosen = np.where(code == value, source, chosen)
        out |= chosen.astype(np.uint32) << np.uint32(8 * k)
    return out
