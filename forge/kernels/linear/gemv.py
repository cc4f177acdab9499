"""Device code of `linear` for few tokens: each weight is read once, at the speed of memory, and used for every token.

A program owns ROWS rows of the weight and walks along K in blocks; sums stay in their lanes until the end, a tuple of
them one a token.
With activations quantized to a8 four products are one integer instruction (`DOTS`); a weight's group then costs one
integer sum, one scale and, where the type has a minimum, one multiple of the activation group's own sum:

    sum_k (scale * code[k] - minimum) * d * a[k]  =  scale * d * sum_k code[k] a[k]  -  minimum * (d * sum_k a[k])

An a16 is a = q + r / 256, so that the sum is (256 * sum_k code[k] q[k] + sum_k code[k] r[k]) / 256. Its numerator is
an exact int32: at most 2^28 in a run of 32, as no factor is beyond 128.
"""

# mypy: disable-error-code="assignment, misc"
# A tuple that grows in an unrolled loop, as Triton has it, is beyond mypy.

from __future__ import annotations

from forge.kernels.device.block_tile import load_tile
from forge.language import jit, tl


@jit
def dot_dp4a(a, b, c):
    """c + the sum of four int8 products. NVIDIA."""
    return tl.inline_asm_elementwise("dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r", [a, b, c], tl.int32, True, 1)


@jit
def dot_gfx9(a, b, c):
    """c + the sum of four int8 products. CDNA."""
    return tl.inline_asm_elementwise("v_dot4_i32_i8 $0, $1, $2, $3", "=v,v,v,v", [a, b, c], tl.int32, True, 1)


@jit
def dot_gfx11(a, b, c):
    """c + the sum of four int8 products. RDNA 3 and 4, where neg_lo marks the operands as signed."""
    assembly: tl.constexpr = "v_dot4_i32_iu8 $0, $1, $2, $3 neg_lo:[1,1,0]"
    return tl.inline_asm_elementwise(assembly, "=v,v,v,v", [a, b, c], tl.int32, True, 1)


@jit
def dot_plain(a, b, c):
    """c + the sum of four int8 products, in arithmetic: for the interpreter, which runs no assembly."""
    for i in tl.static_range(4):
        c += ((a << (24 - 8 * i)) >> 24) * ((b << (24 - 8 * i)) >> 24)
    return c


DOTS = {"dp4a": dot_dp4a, "v_dot4_i32_i8": dot_gfx9, "v_dot4_i32_iu8": dot_gfx11, "plain": dot_plain}


@jit
def gemv_int(
    y_ptr, xq_ptr, xh_ptr, xs_ptr, xd_ptr, q_ptr, h_ptr, s_ptr, d_ptr, bias_ptr, N, K,
    TOKENS: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr, BIAS: tl.constexpr,
    DOT: tl.constexpr, GROUP: tl.constexpr, HALVES: tl.constexpr, HIGH: tl.constexpr, MINIMUM: tl.constexpr,
    CODES: tl.constexpr, SCALES: tl.constexpr, RESIDUAL: tl.constexpr,
):  # fmt: skip
    """y[TOKENS,N] from a8[TOKENS,K] (RESIDUAL: a16) and a block-typed weight [N,K]. A lane holds runs of 32 weights."""
    WORDS: tl.constexpr = 8 // HALVES
    RUNS: tl.constexpr = BLOCK_K // 32
    PARTS: tl.constexpr = 32 // GROUP  # groups a run: where there are two, each half is one
    word = tl.arange(0, WORDS)[None, :]
    # Weight planes are indexed flat, [ROWS*RUNS]: with one axis the compiler has but one order of lanes to choose.
    flat = tl.arange(0, ROWS * RUNS)
    flat_row = tl.program_id(0) * ROWS + flat // RUNS
    sums = ()
    for _ in tl.static_range(TOKENS):
        sums = sums + (tl.zeros([ROWS, RUNS], tl.float32),)  # noqa: RUF005
    for k0 in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        flat_run = k0 // 32 + flat % RUNS
        mask = (flat_row < N) & (flat_run < K // 32)
        at = flat_row.to(tl.int64) * (K // 32) + flat_run
        q = tl.load(q_ptr + (at * WORDS)[:, None] + word, mask[:, None], 0)
        codes, scales = (), ()
        minimum = q
        for half in tl.static_range(HALVES):
            group = at * PARTS + half % PARTS
            h = at
            if HIGH:
                h = tl.load(h_ptr + group, mask, 0)
            decoded = tl.reshape(CODES(q, h[:, None], word, half), [ROWS, RUNS, WORDS])
            codes = codes + (decoded,)  # noqa: RUF005
            if half < PARTS:
                scale, minimum = SCALES(s_ptr, d_ptr, group, mask)
                scales = scales + (tl.reshape(scale, [ROWS, RUNS]),)  # noqa: RUF005
                minimum = tl.reshape(minimum, [ROWS, RUNS])
        run = k0 // 32 + tl.arange(0, RUNS)[None, :]
        run_mask = run < K // 32
        grown = ()
        for token in tl.static_range(TOKENS):
            x_run = token * (K // 32) + run
            x_word = (x_run * 8)[:, :, None] + word[None, :, :]
            x_mask = run_mask[:, :, None]
            for group in tl.static_range(PARTS):
                dot = tl.zeros([ROWS, RUNS, WORDS], tl.int32)
                for half in tl.static_range(group, HALVES, PARTS):
                    dot = DOT(codes[half], tl.load(xq_ptr + x_word + half * WORDS, x_mask, 0), dot)
                if RESIDUAL:
                    dot = dot << 8
                    for half in tl.static_range(group, HALVES, PARTS):
                        dot = DOT(codes[half], tl.load(xh_ptr + x_word + half * WORDS, x_mask, 0), dot)
                product = scales[group] * tl.sum(dot, 2).to(tl.float32)
                if group == 0:
                    part = product
                else:
                    part += product
            d = tl.load(xd_ptr + x_run, run_mask, 0.0)
            if RESIDUAL:
                d *= 1.0 / 256.0
            total = sums[token] + part * d
            if MINIMUM:
                total -= minimum * tl.load(xs_ptr + x_run, run_mask, 0.0)
            grown = grown + (total,)  # noqa: RUF005
        sums = grown
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_mask = n < N
    bias = tl.zeros([ROWS], tl.float32)
    if BIAS:
        bias = tl.load(bias_ptr + n, row_mask, 0.0)
    for token in tl.static_range(TOKENS):
        y = tl.sum(sums[token], 1) + bias
        tl.store(y_ptr + token * N + n, y.to(y_ptr.dtype.element_ty), row_mask)


@jit
def gemv_float(
    y_ptr, x_ptr, q_ptr, h_ptr, s_ptr, d_ptr, bias_ptr, N, K, x_stride, w_stride,
    TOKENS: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr, BIAS: tl.constexpr,
    GROUP: tl.constexpr, HALVES: tl.constexpr, HIGH: tl.constexpr, MINIMUM: tl.constexpr, CODES: tl.constexpr,
    SCALES: tl.constexpr,
):  # fmt: skip
    """y[TOKENS,N] from floating-point x[TOKENS,K] and a weight [N,K] of any type, dequantized in registers."""
    sums = ()
    for _ in tl.static_range(TOKENS):
        sums = sums + (tl.zeros([ROWS, BLOCK_K], tl.float32),)  # noqa: RUF005
    for k0 in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        w = load_tile(
            q_ptr, h_ptr, s_ptr, d_ptr, tl.program_id(0) * ROWS, N, k0, K, w_stride,
            ROWS, BLOCK_K, GROUP, HALVES, HIGH, MINIMUM, CODES, SCALES,
        )  # fmt: skip
        k = k0 + tl.arange(0, BLOCK_K)
        grown = ()
        for token in tl.static_range(TOKENS):
            x = tl.load(x_ptr + token * x_stride + k, k < K, 0.0).to(tl.float32)
            grown = grown + (sums[token] + w * x[None, :],)  # noqa: RUF005
        sums = grown
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_mask = n < N
    bias = tl.zeros([ROWS], tl.float32)
    if BIAS:
        bias = tl.load(bias_ptr + n, row_mask, 0.0)
    for token in tl.static_range(TOKENS):
        y = tl.sum(sums[token], 1) + bias
        tl.store(y_ptr + token * N + n, y.to(y_ptr.dtype.element_ty), row_mask)
