"""Device code of `linear` for a few dozen tokens: y^T[N,T] = w[N,K] x^T[K,T], the weight as the first operand.

A weight is read once, and goes to the matrix units from registers: the columns of a product stand in the order in
which a word holds them, so that no value changes its lane. Where N is small, K is split over programs, and a second
kernel adds their parts.
"""

# mypy: disable-error-code="assignment, misc"
# A tuple whose length is a constant's choice is beyond mypy.

from __future__ import annotations

from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.linear.halves import ENLARGED
from forge.language import dot, jit, tl


@jit
def _in_turn(a, b, c, d, PAIRS: tl.constexpr):
    """[N,4J] of the four bytes' tensors [N,J]: word after word, or in each four words first the bytes 0 and 1."""
    N: tl.constexpr = a.shape[0]
    J: tl.constexpr = a.shape[1]
    if PAIRS:
        y = tl.reshape(tl.join(tl.join(a, b), tl.join(c, d)), [N, J // 4, 4, 2, 2])
        y = tl.permute(y, [0, 1, 4, 2, 3])
    else:
        y = tl.join(tl.join(a, c), tl.join(b, d))
    return tl.reshape(y, [N, 4 * J])


@jit
def _column(i, W: tl.constexpr, BLOCK_K: tl.constexpr, PAIRS: tl.constexpr):
    """The column that stands at place i of a block: the fields of the words come one after the other."""
    WORDS: tl.constexpr = W.words_at_once
    WIDE: tl.constexpr = BLOCK_K // 32 * WORDS * 4  # of a field
    FIELDS: tl.constexpr = W.fields
    CONTIGUOUS: tl.constexpr = 2 if PAIRS else 4 * WORDS
    at, field = i % WIDE, i // WIDE
    if PAIRS:
        word, byte = at // 16 * 4 + at % 8 // 2, at % 16 // 8 * 2 + at % 2
    else:
        word, byte = at // 4, at % 4
    first = field % FIELDS * W.words + field // FIELDS * WORDS
    column = word // WORDS * 32 + (first + word % WORDS) * 4 + byte
    return tl.max_contiguous(tl.multiple_of(column, CONTIGUOUS), CONTIGUOUS)


@jit
def _upper(w, W: tl.constexpr, at, mask, FIRST: tl.constexpr):
    """int32 [N,RUNS]: in the low bits of their bytes the upper bits of the weights FIRST to FIRST + 3 of each run."""
    WEIGHTS: tl.constexpr = 32 // W.high  # whose upper bits a word holds
    h = tl.load(w.h + at * W.high + FIRST // WEIGHTS, mask, 0)
    return h >> (W.high * (FIRST % WEIGHTS // 4))


@jit
def _spread(x, WORDS: tl.constexpr, PAIRS: tl.constexpr):
    """[N,RUNS] as [N,RUNS*WORDS*4]: one for each number of a field, in the order of `_in_turn`."""
    N: tl.constexpr = x.shape[0]
    RUNS: tl.constexpr = x.shape[1]
    y = tl.reshape(tl.broadcast_to(x[:, :, None], [N, RUNS, WORDS]), [N, RUNS * WORDS])
    return _in_turn(y, y, y, y, PAIRS)


@jit
def _words(w, W: tl.constexpr, row, k0, K: tl.constexpr, BLOCK_K: tl.constexpr, EVEN: tl.constexpr):
    """The words of q of a block of columns, as a tuple: all [N,RUNS*words], or each word of the runs [N,RUNS].

    Where codes have upper bits, these lie in another place for each word of a run: so one word at a time.
    """
    RUNS: tl.constexpr = BLOCK_K // 32
    ROW: tl.constexpr = K // 32 * W.words
    word = (k0 // 32 * W.words + tl.arange(0, RUNS * W.words))[None, :]
    q = tl.load(w.q + row * ROW + word, (word < ROW) | EVEN, 0)
    if W.words_at_once < W.words:
        even, odd = tl.split(tl.reshape(q, [q.shape[0], RUNS, 2, 2]))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        words = (first, second, third, fourth)
    else:
        words = (q,)
    return words


@jit
def _beside(a, b):
    """[N,2K] of two [N,K]."""
    return tl.reshape(tl.permute(tl.join(a, b), [0, 2, 1]), [a.shape[0], 2 * a.shape[1]])


@jit
def _values(words, w, W: tl.constexpr, HALVES: tl.constexpr, at, mask, FIRST: tl.constexpr, COUNT: tl.constexpr):
    """f16 weights of COUNT fields, one after the other: see `_column`."""
    FIELD: tl.constexpr = FIRST % W.fields
    PIECE: tl.constexpr = FIRST // W.fields
    WORDS: tl.constexpr = W.words_at_once
    if COUNT > 1:
        lower = _values(words, w, W, HALVES, at, mask, FIRST, COUNT // 2)
        values = _beside(lower, _values(words, w, W, HALVES, at, mask, FIRST + COUNT // 2, COUNT // 2))
    else:
        q = words[PIECE]
        upper = _upper(w, W, at, mask, 4 * (FIELD * W.words + PIECE)) if W.high > 0 else q
        scale, minimum = W.scales(w, at, mask, FIELD * W.parts // W.fields)
        scale, minimum = _spread(scale, WORDS, HALVES.pairs), _spread(minimum, WORDS, HALVES.pairs)
        a, b, c, d = HALVES.numbers(q, upper, W, HALVES, FIELD)
        values = HALVES.scaled(_in_turn(a, b, c, d, HALVES.pairs), scale, minimum, W)
    return values


@jit
def _block(
    acc, x_ptr, w, W: tl.constexpr, HALVES: tl.constexpr, row, k0, K: tl.constexpr,
    BLOCK_K: tl.constexpr, EVEN: tl.constexpr, TURNED: tl.constexpr,
):  # fmt: skip
    """The sums with a block of columns added, which lie within K if all blocks are EVEN."""
    run = (k0 // 32 + tl.arange(0, BLOCK_K // 32))[None, :]
    mask = (run < K // 32) | EVEN
    i = tl.arange(0, BLOCK_K)
    if TURNED:
        x = tl.load(x_ptr + (k0 + i)[:, None])
    else:
        k = k0 + _column(i, W, BLOCK_K, HALVES.pairs)
        x = tl.load(x_ptr + k[:, None], (k < K)[:, None] | EVEN, 0.0)
    words = _words(w, W, row, k0, K, BLOCK_K, EVEN)
    COUNT: tl.constexpr = W.words // W.words_at_once * W.fields
    values = _values(words, w, W, HALVES, row * (K // 32) + run, mask, 0, COUNT)
    return dot(values, x, acc)


@jit
def turned_columns(
    y_ptr,  # f16[T,K'], dense; zeros from K to K'
    x_ptr,  # f16[T,K]
    x_stride,
    ROW,
    K: tl.constexpr,
    W: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """The columns of x in the order in which `linear_tall` multiplies them."""
    wait_for_earlier(DEPENDENT)
    t = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    k = i // BLOCK_K * BLOCK_K + _column(i % BLOCK_K, W, BLOCK_K, True)
    x = tl.load(x_ptr + t * x_stride + k, k < K, 0.0)
    tl.store(y_ptr + t * ROW + i, x, i < ROW)


@jit
def linear_tall(
    y_ptr,  # [T,N], or f32[SPLITS,T,N]: the parts of it
    x_ptr,  # f16[T,K], or TURNED: see `turned_columns`
    w,  # planes [N,K]
    bias_ptr,  # f32[N], or None
    T,
    N,
    x_stride,
    K: tl.constexpr,
    W: tl.constexpr,
    HALVES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPLITS: tl.constexpr,
    STAGES: tl.constexpr,
    TURNED: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """y[T,N] from f16 x[T,K] and a weight [N,K] that is rounded to f16, summed in fp32. BLOCK_T is at least T.

    K is a constant, by which the compiler knows how far loads are aligned: without that it does not load ahead.
    """
    wait_for_earlier(DEPENDENT)
    part = tl.program_id(1)
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    t = tl.arange(0, BLOCK_T)
    row = tl.minimum(n, N - 1).to(tl.int64)[:, None]  # so that loads need no mask
    x_ptr += tl.minimum(t, T - 1)[None, :] * x_stride
    CHUNK: tl.constexpr = (K + SPLITS * BLOCK_K - 1) // (SPLITS * BLOCK_K) * BLOCK_K  # columns of a part
    acc = tl.zeros([BLOCK_N, BLOCK_T], tl.float32)
    # The loop is known to run: else matrix units wait for each product, as sums might not have been made by them.
    for start in tl.range(0, CHUNK, BLOCK_K, num_stages=STAGES):
        k0 = part * CHUNK + start
        if W.group == 1:
            k = k0 + tl.arange(0, BLOCK_K)
            x = tl.load(x_ptr + k[:, None], (k < K)[:, None], 0.0)
            values = tl.load(w.q + row * w.stride + k[None, :], (k < K)[None, :], 0.0)
            acc = dot(values, x, acc)
        else:
            acc = _block(acc, x_ptr, w, W, HALVES, row, k0, K, BLOCK_K, K == SPLITS * CHUNK, TURNED)
    if W.group > 1:
        acc *= 1.0 / ENLARGED
    in_n, in_t = n < N, t < T
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
