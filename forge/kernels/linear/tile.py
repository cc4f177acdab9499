"""Device code of `linear` for many tokens: the weight is dequantized tile by tile and multiplied by matrix units."""

from __future__ import annotations

from forge.kernels.device.tile import load_tile
from forge.language import dot, jit, tl


@jit
def split_f16(x):
    """f32 x as fp16 hi and lo with x = hi + lo / 2048 to about 22 bits; lo is of hi's size, so it is no denormal."""
    hi = x.to(tl.float16)
    return hi, ((x - hi.to(tl.float32)) * 2048.0).to(tl.float16)


@jit
def linear_tiled(
    y_ptr,  # [T,N]
    x,  # planes [T,K]
    w,  # planes [N,K]
    bias_ptr,  # f32[N]
    T,
    N,
    K,
    x_stride,
    w_stride,
    X: tl.constexpr,
    W: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    BAND: tl.constexpr,
    BIAS: tl.constexpr,
    MODE: tl.constexpr,
    SPLIT_X: tl.constexpr,
    SPLIT_W: tl.constexpr,
):
    """y[T,N] from x[T,K] (floating, a8 or a16) and a weight [N,K] of any type, summed in fp32.

    MODE names what the matrix units are given. "f16": both rounded to fp16; an operand whose SPLIT is set goes in two
    parts and keeps about 22 bits. "bf16": a bfloat16 weight as it is, and x in one part or, split, in two, which
    together hold any fp16 number. "f32": single precision throughout.
    """
    # Programs that run together share weights in the L2 cache: a band of BAND tiles of tokens, then the next rows.
    tiles_m, tiles_n = tl.cdiv(T, BLOCK_M), tl.cdiv(N, BLOCK_N)
    band = tl.program_id(0) // (BAND * tiles_n)
    height = tl.minimum(tiles_m - band * BAND, BAND)
    place = tl.program_id(0) % (BAND * tiles_n)
    t0 = (band * BAND + place % height) * BLOCK_M
    n0 = (place // height) * BLOCK_N
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    low = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for k0 in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        a = load_tile(x, X, t0, T, k0, K, x_stride, BLOCK_M, BLOCK_K)
        b = tl.trans(load_tile(w, W, n0, N, k0, K, w_stride, BLOCK_N, BLOCK_K))
        if MODE == "f32":
            acc = dot(a, b, acc)
        elif MODE == "bf16":
            hi = a.to(tl.bfloat16)
            acc = dot(hi, b.to(tl.bfloat16), acc)
            if SPLIT_X:
                acc = dot((a - hi.to(tl.float32)).to(tl.bfloat16), b.to(tl.bfloat16), acc)
        else:
            a_hi, a_lo = split_f16(a)
            b_hi, b_lo = split_f16(b)
            acc = tl.dot(a_hi, b_hi, acc)
            if SPLIT_X:
                low = tl.dot(a_lo, b_hi, low)
            if SPLIT_W:
                low = tl.dot(a_hi, b_lo, low)
    if SPLIT_X or SPLIT_W:
        acc += low * (1.0 / 2048.0)
    t, n = t0 + tl.arange(0, BLOCK_M), n0 + tl.arange(0, BLOCK_N)
    if BIAS:
        acc += tl.load(bias_ptr + n, n < N, 0.0)[None, :]
    mask = (t < T)[:, None] & (n < N)[None, :]
    tl.store(y_ptr + t.to(tl.int64)[:, None] * N + n[None, :], acc.to(y_ptr.dtype.element_ty), mask)
