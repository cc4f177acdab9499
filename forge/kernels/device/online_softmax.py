"""Softmax over keys that arrive in blocks: the device functions that the attention kernels share.

Scores are kept in units of log2, so that exp2 serves. A row's state is (acc, top, total): the weighted sum of values,
the largest score and the sum of exp2(score - top) so far, all fp32. A row that has seen no key has top = -inf and
total = 0; it stays so, without NaN, whatever masked blocks follow. Source: arXiv 1805.02867, 2205.14135.
"""

from __future__ import annotations

from forge.language import dot, jit, tl


@jit
def scores(q, k, SCALE: tl.constexpr, SOFTCAP: tl.constexpr, key_scale=None):
    """log2(e) * cap(SCALE * q[M,E] k[N,E]^T) in fp32, where cap(x) = c tanh(x / c) for a soft cap c > 0.

    With `key_scale` f32[N], key j is key_scale[j] * k[j].
    """
    s = dot(q, tl.trans(k), tl.zeros([q.shape[0], k.shape[0]], tl.float32))
    if key_scale is not None:
        s = s * key_scale[None, :]
    if SOFTCAP > 0:
        # tanh(x) = 1 - 2 / (exp(2x) + 1): right at both ends, where exp is infinite or zero
        s = SOFTCAP * (1 - 2 / (tl.exp2(s * (2.8853900817779268 * SCALE / SOFTCAP)) + 1))
        return s * 1.4426950408889634
    return s * (SCALE * 1.4426950408889634)


@jit
def accumulate(s, v, acc, top, total, value_scale=None):
    """The state after one more block of scores s[M,N] (-inf where masked) and values v[N,E].

    With `value_scale` f32[N], value j is value_scale[j] * v[j].
    """
    new = tl.maximum(top, tl.max(s, 1))
    base = tl.where(new == float("-inf"), 0.0, new)  # -inf - -inf would be NaN
    p = tl.exp2(s - base[:, None])
    shrink = tl.exp2(top - base)
    total = total * shrink + tl.sum(p, 1)
    if value_scale is not None:
        p = p * value_scale[None, :]
    acc = dot(p.to(v.dtype), v, acc * shrink[:, None])
    return acc, new, total


@jit
def normalized(acc, total):
    """The attention of rows whose keys have all been seen; zeros for a row that saw none."""
    return acc * (1.0 / tl.where(total > 0, total, 1.0))[:, None]
