"""Paged attention on a CPU: a sequence's pages gathered side by side, then torch's fused attention."""

from __future__ import annotations

from forge.language import cdiv

FEW = 16  # keys: of fewer, unmasked, torch's fused attention gives zeros where it should give NaN

SCORES = 1 << 24  # fp32 scores held at a time where torch's fused attention cannot express the call


def paged_torch(site, out, q, kv, page_table, query_start, query_len, context_len, *, scale, window, softcap):
    """A sequence at a time. The query heads of one kv head are rows of one product, so that k and v are read once."""
    import torch

    attend = torch.nn.functional.scaled_dot_product_attention
    t, heads, width = q.shape
    _, num_pages, kv_heads, block, _ = kv.shape
    group = heads // kv_heads
    q_groups, out_groups = q.unflatten(1, (kv_heads, group)), out.unflatten(1, (kv_heads, group))
    # A page of one head is a row of `rows`; `bases` is the row of page 0 for k and v and each head.
    rows = kv.view(-1, block * width)
    bases = torch.arange(2).mul(num_pages * kv_heads)[:, None, None] + torch.arange(kv_heads)[:, None]

    def keys(s, low, high):
        """k and v [1,K,high-low,E] of the positions low..high of sequence s."""
        first = low // block
        pages = page_table[s, first : cdiv(high, block)]
        at = torch.add(bases, pages, alpha=kv_heads).view(-1)
        both = rows.index_select(0, at).view(2, 1, kv_heads, -1, width)
        return both[:, :, :, low - first * block : high - first * block].unbind()

    def mask(n, context, low):
        """bool[n, context-low], or None where causal masking from the first key is all there is."""
        position = torch.arange(context - n, context)[:, None]
        key = torch.arange(low, context)
        seen = key <= position
        return seen & (key > position - window) if window else seen

    def capped(s, start, n, context, low):
        """Explicitly, in fp32, a block of queries at a time."""
        k, v = (x[0].float() for x in keys(s, low, context))
        step = max(1, SCORES // (heads * (context - low)))
        for i in range(0, n, step):
            count = min(step, n - i)
            at = slice(start + i, start + i + count)
            x = q_groups[at].permute(1, 2, 0, 3).float().reshape(kv_heads, group * count, width)
            score = torch.tanh(x @ k.transpose(1, 2) * (scale / softcap)).mul_(softcap)
            score = score.view(kv_heads, group, count, -1)
            score.masked_fill_(~mask(n, context, low)[i : i + count], float("-inf"))
            y = score.softmax(-1).view(kv_heads, group * count, -1) @ v
            out_groups[at].copy_(y.view(kv_heads, group, count, width).permute(2, 0, 1, 3))

    def several(s, start, n, context, low):
        k, v = keys(s, low, context)
        plain = n == context and not (window and n > window)
        plain &= context >= FEW
        seen = None if plain else mask(n, context, low)
        x = q[start : start + n].transpose(0, 1)[None]
        y = attend(x, k, v, attn_mask=seen, is_causal=plain, scale=scale, enable_gqa=group > 1)
        out[start : start + n].copy_(y[0].transpose(0, 1))

    def run():
        lens = query_len.tolist()
        if sum(lens) < t:
            out.zero_()
        for s, (start, n, context) in enumerate(zip(query_start.tolist(), lens, context_len.tolist(), strict=True)):
            if not n:
                continue
            low = max(0, context - n - window + 1) if window else 0
            if softcap:
                capped(s, start, n, context, low)
            elif n == 1:
                k, v = keys(s, low, context)
                at = slice(start, start + 1)
                seen = None if context - low >= FEW else torch.ones(1, context - low, dtype=torch.bool)
                out_groups[at].copy_(attend(q_groups[at], k, v, attn_mask=seen, scale=scale))
            else:
                several(s, start, n, context, low)

    return run
