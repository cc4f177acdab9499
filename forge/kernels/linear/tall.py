"""Device code of `linear` for a few dozen tokens: y^T[N,T] = w[N,K] x^T[K,T], the weight as the first operand.

A weight is read once, and goes to the matrix units from registers. The numbers in one field of the words of q are an
operand of their own, beside the columns of x that they belong to: so none of them has to change its lane. Where N is
small, K is split over programs, and a second kernel adds their parts.
"""

from __future__ import annotations

from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.linear.tile import split_f16
from forge.language import dot, jit, tl


@jit
def _numbers(q, FIELD: tl.constexpr, BITS: tl.constexpr):
    """The numbers in a field of the bytes q, from 0 on: those of 8 bits, which are signed, with 128 added."""
    return q ^ 128 if BITS == 8 else (q >> (BITS * FIELD)) & ((1 << BITS) - 1)


@jit
def _upper(w, W: tl.constexpr, at, mask, FIELD: tl.constexpr, PER: tl.constexpr):
    """The upper bits of the codes in a field [N,RUNS,PER], in their place above the number's."""
    WEIGHTS: tl.constexpr = 32 // W.high  # whose bits a word holds
    first: tl.constexpr = FIELD * PER
    i = first % WEIGHTS + tl.arange(0, PER)
    word = tl.load(w.h + at * (32 // WEIGHTS) + first // WEIGHTS, mask, 0)
    shift = (8 * (i % 4) + W.high * (i // 4))[None, None, :]
    return ((word[:, :, None] >> shift) & ((1 << W.high) - 1)) << W.bits


@jit
def _values(w, W: tl.constexpr, q, at, mask, FIELD: tl.constexpr):
    """f32 [N,RUNS*PER] of the weights in a field of q [N,RUNS*PER]: (code - offset) * scale - minimum."""
    PER: tl.constexpr = 4 * W.words
    N: tl.constexpr = q.shape[0]
    RUNS: tl.constexpr = at.shape[1]
    number = tl.reshape(_numbers(q, FIELD, W.bits).to(tl.int32), [N, RUNS, PER])
    if W.high > 0:
        number = number | _upper(w, W, at, mask, FIELD, PER)
    OFFSET: tl.constexpr = 128 if W.bits == 8 else W.offset
    code = number.to(tl.float32) - OFFSET
    scale, minimum = W.scales(w, at, mask, FIELD * W.parts // W.fields)
    value = code * scale[:, :, None]
    if W.minimum:
        value -= minimum[:, :, None]
    return tl.reshape(value, [N, RUNS * PER])


@jit
def linear_tall(
    y_ptr,  # [T,N], or f32[SPLITS,T,N]: the parts of it
    x_ptr,  # f16[T,K]
    w,  # planes [N,K]
    bias_ptr,  # f32[N], or None
    T,
    N,
    K,
    x_stride,
    W: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPLITS: tl.constexpr,
    STAGES: tl.constexpr,
    TWICE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """y[T,N] from f16 x[T,K] and a weight [N,K], summed in fp32. BLOCK_T is at least T.

    The weight is rounded to fp16, or TWICE taken in two parts, which keep about 22 bits.
    """
    wait_for_earlier(DEPENDENT)
    part = tl.program_id(1)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    t = tl.arange(0, BLOCK_T)
    in_n, in_t = n < N, t < T
    row = n.to(tl.int64)[:, None]
    PER: tl.constexpr = 32 if W.group == 1 else 4 * W.words
    FIELDS: tl.constexpr = 1 if W.group == 1 else W.fields
    RUNS: tl.constexpr = BLOCK_K // 32
    i = tl.arange(0, RUNS * PER)
    column = i // PER * 32 + i % PER  # of the first field
    chunk = tl.cdiv(tl.cdiv(K, SPLITS), BLOCK_K) * BLOCK_K
    acc = tl.zeros([BLOCK_N, BLOCK_T], tl.float32)
    rest = acc
    for k0 in tl.range(part * chunk, tl.minimum(K, (part + 1) * chunk), BLOCK_K, num_stages=STAGES):
        run = (k0 // 32 + tl.arange(0, RUNS))[None, :]
        mask = in_n[:, None] & (run < K // 32)
        at = row * (K // 32) + run
        if W.group > 1:
            bytes = w.q.to(tl.pointer_type(tl.uint8))
            inside = in_n[:, None] & ((k0 // 32 + i // PER) < K // 32)[None, :]
            q = tl.load(bytes + row * (K // 32 * PER) + (k0 // 32 * PER + i)[None, :], inside, 0)
        for field in tl.static_range(FIELDS):
            k = k0 + field * PER + column
            x = tl.load(x_ptr + t[None, :] * x_stride + k[:, None], in_t[None, :] & (k < K)[:, None], 0.0)
            if W.group == 1:
                values = tl.load(w.q + row * w.stride + k[None, :], in_n[:, None] & (k < K)[None, :], 0.0)
            else:
                values = _values(w, W, q, at, mask, field)
            if TWICE:
                values, low = split_f16(values)
                rest = dot(low, x, rest)
            acc = dot(values.to(tl.float16), x, acc)
    if TWICE:
        acc += rest * (1.0 / 2048.0)
    if bias_ptr is not None and SPLITS == 1:
        acc += tl.load(bias_ptr + n, in_n, 0.0)[:, None]
    to = (part * T + t).to(tl.int64)[None, :] * N + n[:, None]
    tl.store(y_ptr + to, acc.to(y_ptr.dtype.element_ty), in_n[:, None] & in_t[None, :])


@jit
def sum_parts(
    y_ptr, parts_ptr, bias_ptr, N, COUNT, SPLITS: tl.constexpr, BLOCK: tl.constexpr, DEPENDENT: tl.constexpr
):  # fmt: skip
    """y[T*N] = the sum of parts f32[SPLITS,T*N], and the bias [N] where there is one."""
    wait_for_earlier(DEPENDENT)
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i < COUNT
    y = tl.zeros([BLOCK], tl.float32)
    for part in tl.static_range(SPLITS):
        y += tl.load(parts_ptr + part * COUNT + i, mask, 0.0)
    if bias_ptr is not None:
        y += tl.load(bias_ptr + i % N, mask, 0.0)
    tl.store(y_ptr + i, y.to(y_ptr.dtype.element_ty), mask)
