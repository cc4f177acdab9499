"""The Triton bodies of paged attention.

One body serves every mix of query lengths. A block is BLOCK_M // G tokens of one sequence with the G query heads of
one kv head, packed into the rows of a product. Which sequence a program's block belongs to is found on the device,
from the lengths, so that a launch depends on shapes alone and can be captured.
"""

from __future__ import annotations

from forge.kernels.device.cells import numbers
from forge.kernels.device.codes import store_codes
from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.device.online_softmax import accumulate, normalized, scores
from forge.language import jit, tl

# Probabilities are multiplied by the scales of values, which are small, and are rounded to fp16 with them. This power
# of two keeps both off the ends of fp16: the largest scale, of values that are fp16, is 65504 / 127.
VALUES = tl and tl.constexpr(64.0)


@jit
def _part(
    context,
    query_len,
    splits,
    WINDOW: tl.constexpr,
    MIN_KEYS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """(first key, keys a part) of a sequence: what any of its rows sees, in at most `splits` parts of whole blocks."""
    first = 0
    if WINDOW > 0:
        first = tl.maximum(context - query_len - WINDOW + 1, 0) // BLOCK_N * BLOCK_N
    chunk = tl.maximum(tl.cdiv(context - first, splits), MIN_KEYS)
    return first, tl.cdiv(chunk, BLOCK_N) * BLOCK_N


@jit
def _zero_unowned(out_ptr, start_ptr, len_ptr, token, offsets, mask, S, BLOCK_M: tl.constexpr):
    """Zeros to the rows of this block of tokens that no sequence owns."""
    owners = tl.zeros([BLOCK_M], tl.int32)
    for s0 in range(0, S, 16):
        s = s0 + tl.arange(0, 16)
        start = tl.load(start_ptr + s, s < S, 0)
        n = tl.load(len_ptr + s, s < S, 0)
        owned = (token[:, None] >= start[None, :]) & (token[:, None] < (start + n)[None, :])
        owners += tl.sum(owned.to(tl.int32), 1)
    zeros = tl.zeros(offsets.shape, out_ptr.dtype.element_ty)
    tl.store(out_ptr + offsets, zeros, mask & (owners == 0)[:, None])


@jit
def _codes(
    k_ptr, v_ptr, k_scale_ptr, v_scale_ptr, table_ptr, kv_head, j, high, e,
    K: tl.constexpr, B: tl.constexpr, E: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    """k [N,E] and v [E,N] of the keys j as codes, and their scales f32[N], those of keys from `high` on zero.

    Codes beyond `high` are loaded too: none is a NaN, and their weight is 0. So a load is of whole pages, side by side.
    """
    page = tl.load(table_ptr + j // B, j // B * B < high, 0).to(tl.int64)
    offset = j % B
    if j.shape[0] % B == 0:
        page, offset = tl.max_constancy(page, B), tl.max_contiguous(tl.multiple_of(offset, B), B)
    at = (page * K + kv_head) * PAGE
    scale_at = (page * K + kv_head) * (PAGE // 4) + offset
    k_scale = tl.load(k_scale_ptr + scale_at, j < high, 0.0)
    v_scale = tl.load(v_scale_ptr + scale_at, j < high, 0.0) * VALUES
    k_at, v_at = (at + offset * E)[:, None] + e[None, :], (at + offset)[None, :] + (e * B)[:, None]
    if e.shape[0] > E:
        k, v = tl.load(k_ptr + k_at, (e < E)[None, :], 0), tl.load(v_ptr + v_at, (e < E)[:, None], 0)
    else:
        k, v = tl.load(k_ptr + k_at), tl.load(v_ptr + v_at)
    return k, v, k_scale, v_scale


@jit
def _paged(
    to_ptr,  # [T,H,splits,E]: the result, or fp32 parts of it
    sums_ptr,  # f32[T,H,splits]: log2 of the sum of a part's exponentials; not used unless SPLIT
    q_ptr,  # [T,H,E]
    k_ptr,  # [P,K,B,E], PAGE elements from a page of a head to the next
    v_ptr,  # [P,K,B,E]; codes are [P,K,E,B]
    k_scale_ptr,  # f32[P,K,B] where pages hold codes, else None
    v_scale_ptr,
    table_ptr,  # i32[S,M]
    start_ptr,  # i32[S]
    len_ptr,  # i32[S]
    context_ptr,  # i32[S]
    T,
    S,
    splits,
    q_stride_t,
    q_stride_h,
    table_stride,
    K: tl.constexpr,
    G: tl.constexpr,
    B: tl.constexpr,
    E: tl.constexpr,
    PAGE: tl.constexpr,
    PRODUCT: tl.constexpr,
    PTX: tl.constexpr,
    SPLIT: tl.constexpr,
    MIN_KEYS: tl.constexpr,
    WINDOW: tl.constexpr,
    SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_S: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_earlier(DEPENDENT)
    pid = tl.program_id(0)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    BLOCK_Q: tl.constexpr = BLOCK_M // G
    row = tl.arange(0, BLOCK_M)
    e = tl.arange(0, BLOCK_E)
    head = kv_head * G + row % G

    # Blocks are numbered sequence after sequence: those that end at or before this one belong to earlier sequences.
    i = tl.arange(0, BLOCK_S)
    lens = tl.load(len_ptr + i, i < S, 0)
    blocks = (lens + BLOCK_Q - 1) // BLOCK_Q
    before = tl.cumsum(blocks, 0) <= pid
    s = tl.sum(before.to(tl.int32), 0)
    block = pid - tl.sum(tl.where(before, blocks, 0), 0)

    if not SPLIT and tl.sum(lens, 0) < T:  # else the second kernel does this
        token = pid * BLOCK_Q + row // G
        empty_at = (token.to(tl.int64) * (K * G) + head)[:, None] * E + e[None, :]
        mask = ((row < BLOCK_Q * G) & (token < T))[:, None] & (e < E)[None, :]
        _zero_unowned(to_ptr, start_ptr, len_ptr, token, empty_at, mask, S, BLOCK_M)
    if s >= S:
        return

    start = tl.load(start_ptr + s)
    query_len = tl.load(len_ptr + s)
    context = tl.load(context_ptr + s)
    query = block * BLOCK_Q + row // G
    live = (row < BLOCK_Q * G) & (query < query_len)
    position = context - query_len + query

    # Keys that any row of the block sees lie in low .. high. Parts begin and end at multiples of BLOCK_N, and so does
    # the loop: a live row's position is then all that masks its scores.
    low = 0
    high = context - query_len + tl.minimum((block + 1) * BLOCK_Q, query_len)
    if WINDOW > 0:
        low = tl.maximum(context - query_len + block * BLOCK_Q - WINDOW + 1, 0) // BLOCK_N * BLOCK_N
    if SPLIT:
        first, chunk = _part(context, query_len, splits, WINDOW, MIN_KEYS, BLOCK_N)
        first += split * chunk
        if first >= context:
            return
        low = tl.maximum(low, first)
        high = tl.minimum(high, first + chunk)

    owned = (start + query).to(tl.int64)
    in_width = (e < E)[None, :]
    q_at = owned * q_stride_t + head * q_stride_h
    q = tl.load(q_ptr + q_at[:, None] + e[None, :], live[:, None] & in_width, 0.0).to(PRODUCT)
    table_ptr += s.to(tl.int64) * table_stride

    acc = tl.zeros([BLOCK_M, BLOCK_E], tl.float32)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    for j0 in range(low, high, BLOCK_N):
        j = j0 + tl.arange(0, BLOCK_N)
        if k_scale_ptr is None:
            page = tl.load(table_ptr + j // B, j < high, 0).to(tl.int64)
            at = (page * K + kv_head) * PAGE + j % B * E
            inside = (j < high)[:, None]  # beyond it a page holds anything, NaN too
            if BLOCK_E > E:
                inside = inside & in_width
            k = tl.load(k_ptr + at[:, None] + e[None, :], inside, 0.0)
            v = tl.load(v_ptr + at[:, None] + e[None, :], inside, 0.0)
            score = scores(q, k.to(PRODUCT), SCALE, SOFTCAP)
            v_scale = None
        else:
            k, v, k_scale, v_scale = _codes(
                k_ptr, v_ptr, k_scale_ptr, v_scale_ptr, table_ptr, kv_head, j, high, e, K, B, E, PAGE
            )
            score = scores(q, numbers(k, PRODUCT, PTX), SCALE, SOFTCAP, k_scale)
            v = tl.trans(numbers(v, PRODUCT, PTX))
        age = position[:, None] - j[None, :]
        # with a window, 0 <= age < WINDOW in one comparison
        seen = age.to(tl.uint32, bitcast=True) < WINDOW if WINDOW > 0 else age >= 0
        score = tl.where(seen, score, float("-inf"))
        acc, top, total = accumulate(score, v.to(PRODUCT), acc, top, total, v_scale)

    to = (owned * (K * G) + head) * splits + split
    y = normalized(acc, total)
    if v_scale_ptr is not None:
        y = y * (1.0 / VALUES)
    tl.store(to_ptr + to[:, None] * E + e[None, :], y.to(to_ptr.dtype.element_ty), live[:, None] & in_width)
    if SPLIT:
        tl.store(sums_ptr + to, top + tl.log2(total), live)  # -inf + -inf where no key was seen


@jit
def _combine(
    out,  # [T,H,E], or planes of codes [T,H*E] with RESIDUAL
    parts_ptr,  # f32[T,H,splits,E]
    sums_ptr,  # f32[T,H,splits]
    start_ptr,  # i32[S]
    len_ptr,  # i32[S]
    context_ptr,  # i32[S]
    S,
    H,
    splits,
    E: tl.constexpr,
    MIN_KEYS: tl.constexpr,
    WINDOW: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_S: tl.constexpr,
    RESIDUAL: tl.constexpr,
    OUT: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """y = sum_i 2^(sums_i - top) parts_i / sum_i 2^(sums_i - top) over the parts in use; zeros for a row of nobody."""
    wait_for_earlier(DEPENDENT)
    token = tl.program_id(0)
    row = token.to(tl.int64) * H + tl.program_id(1)
    s = tl.arange(0, BLOCK_S)
    start = tl.load(start_ptr + s, s < S, 0)
    lens = tl.load(len_ptr + s, s < S, 0)
    mine = (start <= token) & (token < start + lens)
    context = tl.sum(tl.where(mine, tl.load(context_ptr + s, s < S, 0), 0), 0)
    query_len = tl.sum(tl.where(mine, lens, 0), 0)
    first, chunk = _part(context, query_len, splits, WINDOW, MIN_KEYS, BLOCK_N)
    used = tl.cdiv(context - first, chunk)

    e = tl.arange(0, BLOCK_E)
    acc = tl.zeros([BLOCK_E], tl.float32)
    top = float("-inf")
    total = 0.0
    for i0 in range(0, used, BLOCK_I):
        i = i0 + tl.arange(0, BLOCK_I)
        sums = tl.load(sums_ptr + row * splits + i, i < used, float("-inf"))
        at = (row * splits + i)[:, None] * E + e[None, :]
        parts = tl.load(parts_ptr + at, (i < used)[:, None] & (e < E)[None, :], 0.0)
        new = tl.maximum(top, tl.max(sums, 0))
        base = tl.where(new == float("-inf"), 0.0, new)
        weight = tl.exp2(sums - base)
        shrink = tl.exp2(top - base)
        acc = acc * shrink + tl.sum(weight[:, None] * parts, 0)
        total = total * shrink + tl.sum(weight, 0)
        top = new
    y = acc / tl.where(total > 0, total, 1.0)
    if RESIDUAL is None:
        tl.store(out + row * E + e, y.to(out.dtype.element_ty), e < E)
    else:
        groups = tl.reshape(y.to(OUT).to(tl.float32), [BLOCK_E // 32, 32])
        group = tl.arange(0, BLOCK_E // 32)
        store_codes(out, groups, row * (E // 32) + group, group < E // 32, BLOCK_E // 32, RESIDUAL)
