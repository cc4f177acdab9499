"""Device code of `linear` for many tokens: the weight is dequantized tile by tile and multiplied by matrix units."""

# mypy: disable-error-code="assignment, misc"
# A tuple that grows in an unrolled loop, as Triton has it, is beyond mypy.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.device.tile import load_tile
from forge.language import DeviceObject, dot, jit, tl


@jit
def split_f16(x):
    """f32 x as fp16 hi and lo with x = hi + lo / 2048 to about 22 bits; lo is of hi's size, so it is no denormal."""
    hi = x.to(tl.float16)
    return hi, ((x - hi.to(tl.float32)) * 2048.0).to(tl.float16)


@jit
def in_f32(x, w, sums):
    """Single precision throughout."""
    return (dot(x, w, sums[0]),)


@jit
def in_bf16(x, w, sums):
    """A bfloat16 weight as it is, and x rounded to bfloat16."""
    return (dot(x.to(tl.bfloat16), w.to(tl.bfloat16), sums[0]),)


@jit
def in_bf16_x_twice(x, w, sums):
    """A bfloat16 weight as it is, and x in two parts, which together hold any fp16 number."""
    hi, w = x.to(tl.bfloat16), w.to(tl.bfloat16)
    return (dot((x - hi.to(tl.float32)).to(tl.bfloat16), w, dot(hi, w, sums[0])),)


@jit
def in_f16(x, w, sums):
    """Both rounded to fp16."""
    return (dot(x.to(tl.float16), w.to(tl.float16), sums[0]),)


@jit
def in_f16_w_twice(x, w, sums):
    """x rounded to fp16, and w in two parts, which keep about 22 bits. The second sum counts 2048ths."""
    x = x.to(tl.float16)
    w_hi, w_lo = split_f16(w)
    return dot(x, w_hi, sums[0]), dot(x, w_lo, sums[1])


@jit
def in_f16_both_twice(x, w, sums):
    """x and w in two parts each, which keep about 22 bits. The second sum counts 2048ths."""
    x_hi, x_lo = split_f16(x)
    w_hi, w_lo = split_f16(w)
    return dot(x_hi, w_hi, sums[0]), dot(x_hi, w_lo, dot(x_lo, w_hi, sums[1]))


@dataclass(frozen=True, repr=False)
class Product(DeviceObject):
    """What the matrix units are given, and how many sums that makes."""

    multiply: Any
    sums: int = 1

    def seen(self) -> tuple[Any, ...]:
        return self.multiply, self.sums


F32, BF16, BF16_X_TWICE, F16 = (Product(fn) for fn in (in_f32, in_bf16, in_bf16_x_twice, in_f16))
F16_W_TWICE, F16_BOTH_TWICE = Product(in_f16_w_twice, 2), Product(in_f16_both_twice, 2)


@jit
def linear_tiled(
    y_ptr,  # [T,N]
    x,  # planes [T,K]
    w,  # planes [N,K]
    bias_ptr,  # f32[N], or None
    T,
    N,
    K,
    X: tl.constexpr,
    W: tl.constexpr,
    PRODUCT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    BAND: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """y[T,N] from x[T,K] (floating, a8 or a16) and a weight [N,K] of any type, summed in fp32."""
    wait_for_earlier(DEPENDENT)
    # Programs that run together share weights in the L2 cache: a band of BAND tiles of tokens, then the next rows.
    tiles_m, tiles_n = tl.cdiv(T, BLOCK_M), tl.cdiv(N, BLOCK_N)
    band = tl.program_id(0) // (BAND * tiles_n)
    height = tl.minimum(tiles_m - band * BAND, BAND)
    place = tl.program_id(0) % (BAND * tiles_n)
    t0 = (band * BAND + place % height) * BLOCK_M
    n0 = (place // height) * BLOCK_N
    SUMS: tl.constexpr = PRODUCT.sums
    sums = ()
    for _ in tl.static_range(SUMS):
        sums = sums + (tl.zeros([BLOCK_M, BLOCK_N], tl.float32),)  # noqa: RUF005
    for k0 in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        x_tile = load_tile(x, X, t0, T, k0, K, BLOCK_M, BLOCK_K)
        w_tile = load_tile(w, W, n0, N, k0, K, BLOCK_N, BLOCK_K)
        sums = PRODUCT.multiply(x_tile, tl.trans(w_tile), sums)
    acc = sums[0]
    if SUMS == 2:
        acc += sums[1] * (1.0 / 2048.0)
    t, n = t0 + tl.arange(0, BLOCK_M), n0 + tl.arange(0, BLOCK_N)
    if bias_ptr is not None:
        acc += tl.load(bias_ptr + n, n < N, 0.0)[None, :]
    mask = (t < T)[:, None] & (n < N)[None, :]
    tl.store(y_ptr + t.to(tl.int64)[:, None] * N + n[None, :], acc.to(y_ptr.dtype.element_ty), mask)
