"""Paged attention on a CPU: a sequence's pages gathered side by side, then torch's fused attention."""

from __future__ import annotations

from forge.kernels.attend import explicitly, fused
from forge.language import cdiv
from forge.quant.cells import decode, parts


def paged_torch(site, out, q, kv, page_table, query_start, query_len, context_len, *, scale, window, softcap):
    """A sequence at a time. The query heads of one kv head are rows of one product, so that k and v are read once."""
    import torch

    t, heads, width = q.shape
    _, num_pages, kv_heads, block, _ = kv.shape
    group = heads // kv_heads
    q_groups, out_groups = q.unflatten(1, (kv_heads, group)), out.unflatten(1, (kv_heads, group))
    # A page of one head is a row; `heads_of` is the row of page 0 for each head.
    heads_of = torch.arange(kv_heads)[:, None]
    numbers, scales = parts(kv)
    if scales is None:  # one row after the other: both are taken at once
        rows = kv.view(-1, block * width)
        bases = torch.arange(2).mul(num_pages * kv_heads)[:, None, None] + heads_of
    else:
        rows_of = [x.flatten(0, 1) for x in (*numbers, *scales)]

    def keys(s, low, high):
        """k and v [1,K,high-low,E] of the positions low..high of sequence s."""
        first = low // block
        pages = page_table[s, first : cdiv(high, block)]
        if scales is None:
            at = torch.add(bases, pages, alpha=kv_heads).view(-1)
            both = rows.index_select(0, at).view(2, 1, kv_heads, -1, width).to(q.dtype)
        else:
            at = torch.add(heads_of, pages, alpha=kv_heads).view(-1)
            k, v, k_scale, v_scale = (x.index_select(0, at) for x in rows_of)
            taken = (decode(x, y, q.dtype) for x, y in ((k, k_scale), (v, v_scale)))
            both = torch.stack([x.view(1, kv_heads, -1, width) for x in taken])
        return both[:, :, :, low - first * block : high - first * block].unbind()

    def mask(n, context, low):
        """bool[n, context-low]"""
        position = torch.arange(context - n, context)[:, None]
        key = torch.arange(low, context)
        seen = key <= position
        return seen & (key > position - window) if window else seen

    def several(s, start, n, context, low):
        k, v = keys(s, low, context)
        plain = n == context and not (window and n > window)
        x = q[start : start + n].transpose(0, 1)[None]
        if softcap:
            y = explicitly(x, k, v, mask(n, context, low), scale=scale, softcap=softcap)
        else:
            y = fused(x, k, v, None if plain else mask(n, context, low), causal=plain, scale=scale)
        out[start : start + n].copy_(y[0].transpose(0, 1))

    def run():
        lens = query_len.tolist()
        if sum(lens) < t:
            out.zero_()
        for s, (start, n, context) in enumerate(zip(query_start.tolist(), lens, context_len.tolist(), strict=True)):
            if not n:
                continue
            low = max(0, context - n - window + 1) if window else 0
            if n == 1 and not softcap:
                at = slice(start, start + 1)
                out_groups[at].copy_(fused(q_groups[at], *keys(s, low, context), scale=scale))
            else:
                several(s, start, n, context, low)

    return run
