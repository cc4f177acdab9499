"""Device code of `linear` for few tokens: each weight is read once, at the speed of memory, and used for every token.

A program owns ROWS rows of the weight and walks along K in blocks; sums stay in their lanes until the end, a tuple of
them one a token.
With activations quantized to a8 four products are one integer instruction (`DOTS`); a weight's group then costs one
integer sum, one scale and, where the type has a minimum, one multiple of the activation group's own sum:

    sum_k (scale * code[k] - minimum) * d * a[k]  =  scale * d * sum_k code[k] a[k]  -  minimum * (d * sum_k a[k])

An a16 is a = q + r / 256, so that the sum is (256 * sum_k code[k] q[k] + sum_k code[k] r[k]) / 256. Its numerator is
an exact int32: at most 2^28 in a run of 32, as no factor is beyond 128. Where a group of 16 has a minimum, the sum of
its activations is made here, by integer products with ones: a8 and a16 hold the sums of 32.
"""

# mypy: disable-error-code="assignment, misc"
# A tuple that grows in an unrolled loop, as Triton has it, is beyond mypy.

from __future__ import annotations

from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.device.tile import load_tile, load_words
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
def _decoded(w, W: tl.constexpr, N, K, k0, ROWS: tl.constexpr, RUNS: tl.constexpr):
    """(codes, scales, minimums) of a program's rows, from column k0 on: a tensor a field, and one a group."""
    # Weight planes are indexed flat, [ROWS*RUNS]: with one axis the compiler has but one order of lanes to choose.
    flat = tl.arange(0, ROWS * RUNS)
    row, run = tl.program_id(0) * ROWS + flat // RUNS, k0 // 32 + flat % RUNS
    mask = (row < N) & (run < K // 32)
    at = row.to(tl.int64) * (K // 32) + run
    WORDS: tl.constexpr = W.words
    FIELDS: tl.constexpr = W.fields
    PARTS: tl.constexpr = W.parts
    q = load_words(w, W, at, mask)
    codes, scales, minimums = (), (), ()
    for field in tl.static_range(FIELDS):
        decoded = tl.reshape(W.codes(w, q, at, mask, field), [ROWS, RUNS, WORDS])
        codes = codes + (decoded,)  # noqa: RUF005
    for part in tl.static_range(PARTS):
        scale, minimum = W.scales(w, at, mask, part)
        scales = scales + (tl.reshape(scale, [ROWS, RUNS]),)  # noqa: RUF005
        minimums = minimums + (tl.reshape(minimum, [ROWS, RUNS]),)  # noqa: RUF005
    return codes, scales, minimums


@jit
def _grown(
    sums, codes, scales, minimums, x, K, k0,
    X: tl.constexpr, W: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, RUNS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """The sums [ROWS,RUNS], one a token, with the products of a block of weights and their activations added."""
    WORDS: tl.constexpr = W.words
    FIELDS: tl.constexpr = W.fields
    PARTS: tl.constexpr = W.parts
    OWN_SUMS: tl.constexpr = W.minimum and PARTS > 1
    word = tl.arange(0, WORDS)[None, :]
    run = k0 // 32 + tl.arange(0, RUNS)[None, :]
    run_mask = run < K // 32
    grown = ()
    for token in tl.static_range(TOKENS):
        x_run = token * (K // 32) + run
        x_word = (x_run * 8)[:, :, None] + word[None, :, :]
        for part in tl.static_range(PARTS):
            dot = tl.zeros([ROWS, RUNS, WORDS], tl.int32)
            total = tl.zeros([1, RUNS, WORDS], tl.int32)
            for field in tl.static_range(part * FIELDS // PARTS, (part + 1) * FIELDS // PARTS):
                q = tl.load(x.q + x_word + field * WORDS, run_mask[:, :, None], 0)
                dot = DOT(codes[field], q, dot)
                if OWN_SUMS:
                    total = DOT(tl.full(q.shape, 0x01010101, tl.int32), q, total)
            if X.residual:
                dot = dot << 8
                total = total << 8
                for field in tl.static_range(part * FIELDS // PARTS, (part + 1) * FIELDS // PARTS):
                    h = tl.load(x.h + x_word + field * WORDS, run_mask[:, :, None], 0)
                    dot = DOT(codes[field], h, dot)
                    if OWN_SUMS:
                        total = DOT(tl.full(h.shape, 0x01010101, tl.int32), h, total)
            product = scales[part] * tl.sum(dot, 2).to(tl.float32)
            if OWN_SUMS:
                product -= minimums[part] * tl.sum(total, 2).to(tl.float32)
            if part == 0:
                partial = product
            else:
                partial += product
        d = tl.load(x.d + x_run, run_mask, 0.0)
        if X.residual:
            d *= 1.0 / 256.0
        grown_by = sums[token] + partial * d
        if W.minimum and not OWN_SUMS:
            grown_by -= minimums[0] * tl.load(x.sum + x_run, run_mask, 0.0)
        grown = grown + (grown_by,)  # noqa: RUF005
    return grown


@jit
def gemv_int(
    y_ptr,  # [TOKENS,N]
    x,  # planes of a8 or a16 [TOKENS,K]
    w,  # planes [N,K]
    bias_ptr,  # f32[N], or None
    N,
    K,
    X: tl.constexpr,
    W: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    DOT: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """y[TOKENS,N] from a8 or a16 [TOKENS,K] and a quantized weight [N,K]. A lane holds runs of 32 weights."""
    RUNS: tl.constexpr = BLOCK_K // 32
    sums = ()
    for _ in tl.static_range(TOKENS):
        sums = sums + (tl.zeros([ROWS, RUNS], tl.float32),)  # noqa: RUF005
    BEGIN: tl.constexpr = BLOCK_K if DEPENDENT else 0
    if DEPENDENT:  # the first weights are on their way while the launch before this one ends
        codes, scales, minimums = _decoded(w, W, N, K, 0, ROWS, RUNS)
        wait_for_earlier(DEPENDENT)
        sums = _grown(sums, codes, scales, minimums, x, K, 0, X, W, TOKENS, ROWS, RUNS, DOT)
    for k0 in tl.range(BEGIN, K, BLOCK_K, num_stages=STAGES):
        codes, scales, minimums = _decoded(w, W, N, K, k0, ROWS, RUNS)
        sums = _grown(sums, codes, scales, minimums, x, K, k0, X, W, TOKENS, ROWS, RUNS, DOT)
    _store_sums(y_ptr, bias_ptr, sums, N, TOKENS, ROWS)


@jit
def gemv_float(
    y_ptr,  # [TOKENS,N]
    x_ptr,  # [TOKENS,K]
    w,  # planes [N,K]
    bias_ptr,  # f32[N], or None
    N,
    K,
    x_stride,
    W: tl.constexpr,
    TOKENS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """y[TOKENS,N] from floating-point x[TOKENS,K] and a weight [N,K] of any type, dequantized in registers."""
    wait_for_earlier(DEPENDENT)
    sums = ()
    for _ in tl.static_range(TOKENS):
        sums = sums + (tl.zeros([ROWS, BLOCK_K], tl.float32),)  # noqa: RUF005
    for k0 in tl.range(0, K, BLOCK_K, num_stages=STAGES):
        tile = load_tile(w, W, tl.program_id(0) * ROWS, N, k0, K, ROWS, BLOCK_K)
        k = k0 + tl.arange(0, BLOCK_K)
        grown = ()
        for token in tl.static_range(TOKENS):
            x = tl.load(x_ptr + token * x_stride + k, k < K, 0.0).to(tl.float32)
            grown = grown + (sums[token] + tile * x[None, :],)  # noqa: RUF005
        sums = grown
    _store_sums(y_ptr, bias_ptr, sums, N, TOKENS, ROWS)


@jit
def _store_sums(y_ptr, bias_ptr, sums, N, TOKENS: tl.constexpr, ROWS: tl.constexpr):
    """y[token] = the sum of each row's lanes, and the bias where there is one."""
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_mask = n < N
    bias = tl.zeros([ROWS], tl.float32)
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + n, row_mask, 0.0)
    for token in tl.static_range(TOKENS):
        y = tl.sum(sums[token], 1) + bias
        tl.store(y_ptr + token * N + n, y.to(y_ptr.dtype.element_ty), row_mask)
