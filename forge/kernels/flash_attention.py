"""Attention over dense keys and values."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import Sym, tensor
from forge.kernels import fills
from forge.kernels.attend import explicitly, fused
from forge.kernels.device.online_softmax import accumulate, normalized, scores
from forge.language import cdiv, jit, next_power_of_2, tl


def _types(q, k, v, *, causal, scale, window, softcap):
    expect(q.rank == 4 and q.dtype.fits_f32, "q must be f32, f16 or bf16 [S,T,H,E]")
    expect(k == v and k.rank == 4 and k.dtype == q.dtype, "k and v must be [S,C,K,E] of q's element type")
    expect(q.shape[0] == k.shape[0] and q.shape[3] == k.shape[3], "q and k must have one S and one head width E")
    expect(not any(isinstance(d, Sym) for d in (*q.shape[2:], k.shape[2])), "heads and their width must be known")
    expect(q.shape[2] % k.shape[2] == 0, "the heads of q must be a multiple of the heads of k")
    expect(scale > 0 and window >= 0 and softcap >= 0, "scale must be positive, window and softcap not negative")
    expect(causal or not window, "a window is counted back from each query and needs causal=True")
    return q


def _reference(q, k, v, *, causal, scale, window, softcap):
    import torch

    group, t, c = q.shape[2] // k.shape[2], q.shape[1], k.shape[1]
    k, v = (x.float().repeat_interleave(group, 2) for x in (k, v))
    score = torch.einsum("sqhe,skhe->shqk", q.float(), k) * scale
    if softcap:
        score = softcap * torch.tanh(score / softcap)
    if not causal:
        return torch.einsum("shqk,skhe->sqhe", score.softmax(-1), v)
    age = torch.arange(c - t, c, device=q.device)[:, None] - torch.arange(c, device=q.device)
    seen = (age >= 0) & (age < window) if window else age >= 0
    weight = score.masked_fill(~seen, float("-inf")).softmax(-1).masked_fill(~seen.any(-1, keepdim=True), 0)
    return torch.einsum("shqk,skhe->sqhe", weight, v)


def _cost(q, k, v, *, causal, scale, window, softcap):
    _, t, _, _ = q.concrete()
    c = k.concrete()[1]
    pairs = t * c
    if causal:
        pairs = sum(max(0, min(c - t + i + 1, window or c)) for i in range(t))
    return Cost(bytes=2 * q.nbytes + 2 * k.nbytes, flops=4 * q.numel // t * pairs if t else 0)


def _cases():
    def case(name, t, c, *, s=1, heads=2, kv_heads=1, width=64, dt="f16", spread=1.0, small=True, **attrs):
        types = (tensor(dt, s, t, heads, width), *(tensor(dt, s, c, kv_heads, width),) * 2)
        attrs = {"causal": True, "scale": width**-0.5, "window": 0, "softcap": 0.0} | attrs
        return Case(name, types, attrs, fills={"q": fills.scaled(spread)}, small=small)

    for dt in ("f16", "bf16", "f32"):
        yield case(dt, 70, 70, s=2, dt=dt)
    yield case("all keys", 67, 33, heads=8, causal=False)
    yield case("fewer queries than keys", 5, 131, heads=4, kv_heads=2)
    yield case("rows that see no key", 70, 3)
    yield case("one query", 1, 65, heads=3, kv_heads=3)
    yield case("one of each", 1, 1, s=3)
    yield case("window 20", 100, 129, window=20)
    yield case("soft cap", 40, 41, softcap=5.0, spread=8)
    yield case("huge scores", 33, 64, spread=1e4)
    # 80 and 96 have one scale, because their code differs by a bound alone and need not be compiled twice
    for width, scale in ((32, 0.2), (80, 0.1), (96, 0.1), (128, 0.08), (256, 0.06)):
        yield case(f"width {width}", 257, 513, s=2, heads=4, kv_heads=2, width=width, scale=scale, small=False)
    yield case("window and cap", 300, 500, heads=4, width=128, window=130, softcap=30.0, small=False)


@op(
    types=_types,
    reference=_reference,
    cost=_cost,
    cases=lambda: tuple(_cases()),
    axes={"q": "STHE", "k": "SCKE", "v": "SCKE"},
)
def flash_attention(q, k, v, *, causal=True, scale, window=0, softcap=0.0):
    """y[S,T,H,E] = softmax(cap(scale * q k^T)) v for q[S,T,H,E] and k, v [S,C,K,E], H a multiple of K; fp32 softmax.

    With `causal`, query i sees keys up to C - T + i, and with window w > 0 only the last w of them; a query that sees
    no key gives zeros. With softcap c > 0 a score x becomes c tanh(x / c). The elements of a head lie side by side;
    everything else may be strided. Source: arXiv 2205.14135, 2307.08691.
    """


@jit
def _flash(
    out_ptr,  # [S,T,H,E], contiguous
    q_ptr,  # [S,T,H,E]
    k_ptr,  # [S,C,K,E]
    v_ptr,  # [S,C,K,E]
    T,
    C,
    H,
    q_stride_s,
    q_stride_t,
    q_stride_h,
    k_stride_s,
    k_stride_c,
    k_stride_k,
    v_stride_s,
    v_stride_c,
    v_stride_k,
    G: tl.constexpr,
    E: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr,
    PEEL: tl.constexpr,  # whole blocks in a loop of their own, without masks: quicker, for more registers
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    block = tl.num_programs(0) - 1 - tl.program_id(0)  # causal: the longest rows first, so that none is left over
    head = tl.program_id(1)
    s = tl.program_id(2).to(tl.int64)
    query = block * BLOCK_M + tl.arange(0, BLOCK_M)
    position = C - T + query  # the last key that a row sees
    e = tl.arange(0, BLOCK_E)
    live = (query < T)[:, None] & (e < E)[None, :]
    q_ptr += s * q_stride_s + head * q_stride_h
    q = tl.load(q_ptr + query.to(tl.int64)[:, None] * q_stride_t + e[None, :], live, 0.0)
    k_ptr += s * k_stride_s + (head // G) * k_stride_k
    v_ptr += s * v_stride_s + (head // G) * v_stride_k

    # What any row sees lies in low .. high, and every row sees all of the whole blocks in full_low .. full_high.
    low, high = 0, C
    if CAUSAL:
        first = C - T + block * BLOCK_M
        high = tl.minimum(first + BLOCK_M, C)
        if WINDOW > 0:
            low = tl.maximum(first - WINDOW + 1, 0) // BLOCK_N * BLOCK_N

    acc = tl.zeros([BLOCK_M, BLOCK_E], tl.float32)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    if PEEL:
        full_low, full_high = low, C // BLOCK_N * BLOCK_N
        if CAUSAL:
            full_high = tl.maximum(tl.minimum(first + 1, C), 0) // BLOCK_N * BLOCK_N
        if WINDOW > 0:
            full_low = tl.cdiv(tl.maximum(first + BLOCK_M - WINDOW, 0), BLOCK_N) * BLOCK_N
            full_low = tl.minimum(full_low, tl.maximum(high, 0))
            full_high = tl.maximum(full_high, full_low)
            for j in range(low, full_low, BLOCK_N):
                acc, top, total = _block(
                    q, k_ptr, v_ptr, k_stride_c, v_stride_c, j, e, position, C, acc, top, total,
                    True, CAUSAL, E, WINDOW, SCALE, SOFTCAP, BLOCK_N, BLOCK_E,
                )  # fmt: skip
        for j in range(full_low, full_high, BLOCK_N):
            acc, top, total = _block(
                q, k_ptr, v_ptr, k_stride_c, v_stride_c, j, e, position, C, acc, top, total,
                False, CAUSAL, E, WINDOW, SCALE, SOFTCAP, BLOCK_N, BLOCK_E,
            )  # fmt: skip
        low = full_high
    for j in range(low, high, BLOCK_N):
        acc, top, total = _block(
            q, k_ptr, v_ptr, k_stride_c, v_stride_c, j, e, position, C, acc, top, total,
            True, CAUSAL, E, WINDOW, SCALE, SOFTCAP, BLOCK_N, BLOCK_E,
        )  # fmt: skip

    y = normalized(acc, total).to(out_ptr.dtype.element_ty)
    at = ((s * T + query) * H + head)[:, None] * E + e[None, :]
    tl.store(out_ptr + at, y, live)


@jit
def _block(
    q,
    k_ptr,
    v_ptr,
    k_stride_c,
    v_stride_c,
    j0,
    e,
    position,
    C,
    acc,
    top,
    total,
    MASKED: tl.constexpr,
    CAUSAL: tl.constexpr,
    E: tl.constexpr,
    WINDOW: tl.constexpr,
    SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """One block of keys j0 .. j0 + BLOCK_N; MASKED where some row does not see some of them."""
    # Only the block's start needs 64 bits; offsets within it take 32, and half the registers.
    k_ptr += tl.cast(j0, tl.int64) * k_stride_c
    v_ptr += tl.cast(j0, tl.int64) * v_stride_c
    i = tl.arange(0, BLOCK_N)
    k_at, v_at = i[:, None] * k_stride_c + e[None, :], i[:, None] * v_stride_c + e[None, :]
    j = j0 + i
    if MASKED or BLOCK_E > E:
        inside = (j < C)[:, None] & (e < E)[None, :]
        k = tl.load(k_ptr + k_at, inside, 0.0)
        v = tl.load(v_ptr + v_at, inside, 0.0)
    else:
        k = tl.load(k_ptr + k_at)
        v = tl.load(v_ptr + v_at)
    score = scores(q, k, SCALE, SOFTCAP)
    if MASKED:
        if CAUSAL:  # position < C for every row that is stored
            age = position[:, None] - j[None, :]
            # with a window, 0 <= age < WINDOW in one comparison
            seen = age.to(tl.uint32, bitcast=True) < WINDOW if WINDOW > 0 else age >= 0
        else:
            seen = (j < C)[None, :]
        score = tl.where(seen, score, float("-inf"))
    return accumulate(score, v, acc, top, total)


@flash_attention.kernel(
    space=Space(
        BLOCK_M=(64, 128, 32), BLOCK_N=(32, 16, 64, 128), PEEL=(False, True), num_warps=(8, 4), num_stages=(1, 2, 3)
    )
)
def flash_rows(site, out, q, k, v, *, causal, scale, window, softcap):
    """A program a block of queries of one head."""
    s, t, heads, width = q.shape
    _, c, kv_heads, _ = k.shape
    return site.launch(
        _flash, (cdiv(t, site["BLOCK_M"]), heads, s), out, q, k, v, t, c, heads,
        *q.stride()[:3], k.stride(0), k.stride(1), k.stride(2), v.stride(0), v.stride(1), v.stride(2),
        G=heads // kv_heads, E=width, CAUSAL=causal, WINDOW=window, SCALE=scale, SOFTCAP=softcap,
        BLOCK_E=max(16, next_power_of_2(width)),
    )  # fmt: skip


@flash_attention.kernel(on="cpu")
def flash_torch(site, out, q, k, v, *, causal, scale, window, softcap):
    """torch's fused attention, a sequence's heads first; where it cannot express the call, explicitly in fp32."""
    import torch

    t, c = q.shape[1], k.shape[1]
    q, k, v, out = (x.transpose(1, 2) for x in (q, k, v, out))  # [S,H,T,E]
    age = torch.arange(c - t, c)[:, None] - torch.arange(c)
    seen = (age >= 0) & (age < window) if window else age >= 0
    if not causal or bool(seen.all()):
        seen = None
    # torch aligns its own causal mask to the first key
    plain = seen is not None and t == c and not (window and window < t)
    if softcap:
        return lambda: out.copy_(explicitly(q, k, v, seen, scale=scale, softcap=softcap))
    return lambda: out.copy_(fused(q, k, v, None if plain else seen, causal=plain, scale=scale))
