"""Attention on a CPU, a sequence's heads first, as the attention ops share it.

q [S,H,T,E] and k, v [S,K,C,E], H a multiple of K; `seen` bool[T,C] says which keys a query sees, and None is all.
"""

from __future__ import annotations

SCORES = 1 << 24  # fp32 scores held at a time


def fused(q, k, v, seen=None, *, causal=False, scale):
    """softmax(scale * q k^T) v by torch's fused attention; `causal` in place of `seen`, from the first key on.

    Where scores are NaN or infinite torch's gives zeros, or lets a NaN through from keys that are not seen. Such rows
    are all zeros or hold a NaN; where there are any, the call is computed `explicitly`.
    """
    import torch

    attend = torch.nn.functional.scaled_dot_product_attention
    y = attend(q, k, v, attn_mask=seen, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    if y.abs().amax(-1).amin().item() > 0:  # false where it is NaN
        return y
    if causal:
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
    return explicitly(q, k, v, seen, scale=scale)


def explicitly(q, k, v, seen=None, *, scale, softcap=0.0):
    """softmax(cap(scale * q k^T)) v in fp32, a block of queries at a time; zeros for a query that sees no key."""
    import torch

    (s, heads, t, width), (_, kv_heads, c, _) = q.shape, k.shape
    group = heads // kv_heads
    keys, values = k.float().transpose(2, 3), v.float()
    out = torch.empty(q.shape, dtype=torch.float32)
    step = max(1, SCORES // max(1, s * heads * c))
    for i in range(0, t, step):
        x = q[:, :, i : i + step].float().reshape(s, kv_heads, -1, width)  # the heads of a kv head in one product
        score = (x @ keys).view(s, kv_heads, group, -1, c).mul_(scale)
        if softcap:
            score = score.div_(softcap).tanh_().mul_(softcap)
        if seen is not None:
            score.masked_fill_(~seen[i : i + step], float("-inf"))
        y = (score.softmax(-1).view(s, kv_heads, -1, c) @ values).view(s, heads, -1, width)
        if seen is not None:
            y.masked_fill_(~seen[i : i + step].any(-1, keepdim=True), 0)
        out[:, :, i : i + step] = y
    return out
