"""float64 and float16 arithmetic, and conversions between all number types."""

from __future__ import annotations

import numpy as np
from amdgcn.instructions.exact import fma64, saturated
from amdgcn.instructions.oracle import also, oracle

I32, U32 = (-(2**31), 2**31 - 1), (0, 2**32 - 1)
DWORD = "dst_sel:DWORD dst_unused:UNUSED_PAD"


@oracle(
    "f64 = f64 f64",
    gfx11=["v_mul_f64 v[0:1], v[2:3], v[4:5]", "v_mul_f64 v[0:1], v[0:1], -v[4:5]"],
    gfx1201=["v_mul_f64_e32 v[4:5], v[0:1], v[2:3]", "v_mul_f64_e64 v[4:5], v[0:1], -v[2:3]"],
)
def multiply(a, b):
    """D = S0 * S1."""
    return a * b


@oracle(
    "f64 = f64 f64 f64",
    "v_fma_f64 v[0:1], v[2:3], v[4:5], v[6:7]",
    "v_fma_f64 v[6:7], v[6:7], 4.0, 0.5",
    "v_fma_f64 v[0:1], -v[2:3], v[4:5], 1.0",
    lanes=512,
)
def fma(a, b, c):
    """D = S0 * S1 + S2, rounded once."""
    return fma64(a, b, c)


@oracle(
    "f64 = f64 f64 d.f64",
    cdna=["v_fmac_f64_e32 v[6:7], -4.0, v[4:5]", "v_fmac_f64_e32 v[6:7], v[2:3], v[4:5]"],
    lanes=512,
)
def fmac(a, b, d):
    """D = S0 * S1 + D, rounded once."""
    return fma64(a, b, d)


@oracle("f64 = f64", "v_floor_f64_e32 v[6:7], v[6:7]")
def floor(a):
    """D = the largest integer not above S0."""
    return np.floor(a)


@oracle("f64 = f64 i32", "v_ldexp_f64 v[0:1], v[2:3], v4", "v_ldexp_f64 v[0:1], v[2:3], -2")
def ldexp(a, n):
    """D = S0 * 2 ** S1."""
    return np.ldexp(a, np.clip(n, -3000, 3000).astype(np.int32))


@oracle("f64 = f64", "v_rcp_f64_e32 v[10:11], v[8:9]", near=2.0**-22, flush=True)
def rcp(a):
    """D = 1 / S0, within 2**29 ulp: a seed for Newton's method."""
    return 1 / a


@oracle(
    "f16 = f16 f16",
    cdna=["v_mul_f16_e32 v0, v1, v2", "v_mul_f16_e32 v0, 2.0, v2"],
    rdna=[
        "v_mul_f16_e32 v7.l, v3.l, v3.h",
        "v_mul_f16_e32 v5.h, v6.l, v6.h",
        "v_mul_f16_e32 v5.l, v6.h, v7.l",
        "v_mul_f16_e64 v171.l, v25.l, v32.h",
        "v_mul_f16_e64 v5.h, -v6.l, |v7.h|",
    ],
)
def multiply16(a, b):
    """D.f16 = S0.f16 * S1.f16."""
    return (a.astype(np.float32) * b.astype(np.float32)).astype(np.float16)


@oracle(
    "f16 = f16 f16",
    cdna=[
        "v_add_f16_e32 v0, v1, v2",
        f"v_add_f16_sdwa v3, v5, v7 {DWORD} src0_sel:DWORD src1_sel:WORD_1",
        f"v_add_f16_sdwa v3, v3, v7 {DWORD} src0_sel:WORD_1 src1_sel:WORD_1",
    ],
    rdna=[
        "v_add_f16_e32 v9.l, v3.h, v8.l",
        "v_add_f16_e32 v0.h, v3.l, v4.l",
        "v_add_f16_e32 v1.h, v1.h, v2.l",
        "v_add_f16_e32 v0.l, v0.l, v5.l",
    ],
)
def add16(a, b):
    """D.f16 = S0.f16 + S1.f16."""
    return (a.astype(np.float32) + b.astype(np.float32)).astype(np.float16)


@oracle(
    "f16 = i16",
    cdna=["v_cvt_f16_i16_e32 v5, v8", f"v_cvt_f16_i16_sdwa v5, v5 {DWORD} src0_sel:WORD_1"],
    rdna=[
        "v_cvt_f16_i16_e32 v9.l, v6.h",
        "v_cvt_f16_i16_e32 v9.h, v9.h",
        "v_cvt_f16_i16_e32 v9.h, v6.l",
        "v_cvt_f16_i16_e64 v9.l, v131.l",
    ],
)
def f16_i16(a):
    """D.f16 = S0.i16, to nearest even."""
    return a.astype(np.float32).astype(np.float16)


@oracle(
    "f16 = f32",
    cdna=["v_cvt_f16_f32_e32 v0, v1", "v_cvt_f16_f32_e32 v1, v1"],
    rdna=[
        "v_cvt_f16_f32_e32 v5.h, v9",
        "v_cvt_f16_f32_e32 v5.l, v5",
        "v_cvt_f16_f32_e64 v16.l, v21",
        "v_cvt_f16_f32_e64 v16.h, -|v21|",
    ],
)
def f16_f32(a):
    """D.f16 = S0, to nearest even, overflow to infinity."""
    return a.astype(np.float16)


@oracle(
    "f32 = f16",
    cdna=["v_cvt_f32_f16_e32 v0, v1", f"v_cvt_f32_f16_sdwa v7, v4 {DWORD} src0_sel:WORD_1"],
    rdna=[
        "v_cvt_f32_f16_e32 v0, v0.l",
        "v_cvt_f32_f16_e32 v0, v1.h",
        "v_cvt_f32_f16_e64 v13, v17.l",
        "v_cvt_f32_f16_e64 v13, -v17.h",
    ],
)
def f32_f16(a):
    return a.astype(np.float32)


@oracle("f32 = f64", "v_cvt_f32_f64_e32 v0, v[0:1]", "v_cvt_f32_f64_e32 v9, v[2:3]")
def f32_f64(a):
    return a.astype(np.float32)


@oracle("f64 = f32", "v_cvt_f64_f32_e32 v[2:3], v9", "v_cvt_f64_f32_e32 v[2:3], v2")
def f64_f32(a):
    return a.astype(np.float64)


@oracle(
    "f32 = i32",
    "v_cvt_f32_i32_e32 v0, v1",
    "v_cvt_f32_i32_e32 v0, s1",
    gfx1201=["s_cvt_f32_i32 s0, s3"],
    cdna=[f"v_cvt_f32_i32_sdwa v1, sext(v2) {DWORD} src0_sel:BYTE_{n}" for n in range(4)],
)
def f32_i32(a):
    """D = S0 to nearest even."""
    return a.astype(np.float32)


also(
    "gfx942",
    f"v_cvt_f32_i32_sdwa v1, sext(v2) {DWORD} src0_sel:WORD_1",
    f"v_cvt_f32_i32_sdwa v1, v2 {DWORD} src0_sel:BYTE_2",
)


@oracle("f32 = u32", "v_cvt_f32_u32_e32 v0, v1", "v_cvt_f32_u32_e32 v1, s6", gfx1201=["s_cvt_f32_u32 s3, s5"])
def f32_u32(a):
    return a.astype(np.float32)


@oracle("f64 = i32", "v_cvt_f64_i32_e32 v[4:5], s13", "v_cvt_f64_i32_e32 v[4:5], v4")
def f64_i32(a):
    return a.astype(np.float64)


@oracle(
    "i32 = f32",
    "v_cvt_i32_f32_e32 v4, v6",
    "v_cvt_i32_f32_e32 v4, v4",
    cdna=["v_cvt_i32_f32_sdwa v9, v9 dst_sel:BYTE_1 dst_unused:UNUSED_PAD src0_sel:DWORD"],
)
def i32_f32(a):
    """D = S0 truncated; beyond the type its nearest value; NaN gives 0."""
    return saturated(a, *I32)


@oracle("u32 = f32", "v_cvt_u32_f32_e32 v1, v1", gfx1201=["s_cvt_u32_f32 s6, s6"])
def u32_f32(a):
    return saturated(a, *U32)


@oracle("i32 = f64", "v_cvt_i32_f64_e32 v8, v[6:7]", "v_cvt_i32_f64_e32 v6, v[6:7]")
def i32_f64(a):
    return saturated(a, *I32)


@oracle("u32 = u16", rdna=["v_cvt_u32_u16_e32 v26, v26.l", "v_cvt_u32_u16_e32 v2, v6.h"])
def u32_u16(a):
    return a


def _byte(n: int):
    @oracle("f32 = u32", f"v_cvt_f32_ubyte{n}_e32 v0, v1", f"v_cvt_f32_ubyte{n}_e32 v1, v1")
    def ubyte(a):
        """D = byte n of S0."""
        return (a >> 8 * n & 0xFF).astype(np.float32)


for _n in range(4):
    _byte(_n)
