"""Device code of `linear` for many tokens: the weight is dequantized tile by tile and multiplied by matrix units."""

from __future__ import annotations

from forge.kernels.device.block_tile import load_tile
from forge.language import jit, tl


@jit
def split_f16(x):
    """f32 x as fp16 hi and lo with x = hi + lo / 2048 to about 22 bits; lo is of hi's size, so it is no denormal."""
    hi = x.to(tl.float16)
    return hi, ((x - hi.to(tl.float32)) * 2048.0).to(tl.float16)


@jit
def linear_tiled(
    y_ptr, xq_ptr, xh_ptr, xs_ptr, xd_ptr, q_ptr, h_ptr, s_ptr, d_ptr, bias_ptr, T, N, K, x_stride, w_stride,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
    BAND: tl.constexpr, BIAS: tl.constexpr, MODE: tl.constexpr, BF16: tl.constexpr, SPLIT_X: tl.constexpr,
    SPLIT_W: tl.constexpr, X_RESIDUAL: tl.constexpr,
    X_GROUP: tl.constexpr, X_HALVES: tl.constexpr, X_HIGH: tl.constexpr, X_MINIMUM: tl.constexpr,
    X_CODES: tl.constexpr, X_SCALES: tl.constexpr, GROUP: tl.constexpr, HALVES: tl.constexpr, HIGH: tl.constexpr,
    MINIMUM: tl.constexpr, CODES: tl.constexpr, SCALES: tl.constexpr,
):  # fmt: skip
    """y[T,N] from x[T,K] (floating, a8 or a16) and a weight [N,K] of any type, summed in fp32.

    MODE names what the matrix units are given. "f16": both rounded to fp16; an operand whose SPLIT is set goes in two
    parts and keeps about 22 bits. "bf16": a bfloat16 weight as it is, and x in one part or, split, in two, which
    together hold any fp16 number. "f32": single precision throughout. BF16 is bfloat16 but in Triton's interpreter,
    whose dot takes bfloat16 for integers: there it is f32, which holds the same numbers.
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
        x = load_tile(
            xq_ptr, xh_ptr, xs_ptr, xd_ptr, t0, T, k0, K, x_stride,
            BLOCK_M, BLOCK_K, X_GROUP, X_HALVES, X_HIGH, X_MINIMUM, X_CODES, X_SCALES,
        )  # fmt: skip
        if X_RESIDUAL:
            x += (1.0 / 256.0) * load_tile(
                xh_ptr, xh_ptr, xs_ptr, xd_ptr, t0, T, k0, K, x_stride,
                BLOCK_M, BLOCK_K, X_GROUP, X_HALVES, X_HIGH, X_MINIMUM, X_CODES, X_SCALES,
            )  # fmt: skip
        w = load_tile(
            q_ptr, h_ptr, s_ptr, d_ptr, n0, N, k0, K, w_stride,
            BLOCK_N, BLOCK_K, GROUP, HALVES, HIGH, MINIMUM, CODES, SCALES,
        )  # fmt: skip
        w = tl.trans(w)
        if MODE == "f32":
            acc = tl.dot(x, w, acc, input_precision="ieee")
        elif MODE == "bf16":
            hi = x.to(tl.bfloat16)
            acc = tl.dot(hi.to(BF16), w.to(BF16), acc)
            if SPLIT_X:
                acc = tl.dot((x - hi.to(tl.float32)).to(tl.bfloat16).to(BF16), w.to(BF16), acc)
        else:
            x_hi, x_lo = split_f16(x)
            w_hi, w_lo = split_f16(w)
            acc = tl.dot(x_hi, w_hi, acc)
            if SPLIT_X:
                low = tl.dot(x_lo, w_hi, low)
            if SPLIT_W:
                low = tl.dot(x_hi, w_lo, low)
    if SPLIT_X or SPLIT_W:
        acc += low * (1.0 / 2048.0)
    t, n = t0 + tl.arange(0, BLOCK_M), n0 + tl.arange(0, BLOCK_N)
    if BIAS:
        acc += tl.load(bias_ptr + n, n < N, 0.0)[None, :]
    mask = (t < T)[:, None] & (n < N)[None, :]
    tl.store(y_ptr + t.to(tl.int64)[:, None] * N + n[None, :], acc.to(y_ptr.dtype.element_ty), mask)
