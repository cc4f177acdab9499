"""Attention of new tokens over keys and values kept in pages, for any mix of prefill and decode.

The bodies of the kernels are in `device.py` (GPU) and `cpu.py`; the cases in `cases.py`.
"""

from __future__ import annotations

from forge.graph.op import Cost, Space, expect, op
from forge.graph.types import Sym, tensor
from forge.kernels.device.tile import element
from forge.kernels.paged_attention.cases import cases
from forge.kernels.paged_attention.cpu import paged_torch
from forge.kernels.paged_attention.device import _combine, _paged
from forge.language import cdiv, next_power_of_2
from forge.quant.cells import decode, parts, row_width
from forge.torch_types import type_name


def _types(q, kv, page_table, query_start, query_len, context_len, *, scale, window, softcap):
    expect(q.rank == 3 and q.dtype.fits_f32, "q must be f32, f16 or bf16 [T,H,E]")
    expect(kv.rank == 5 and kv.shape[0] == 2, "kv must be [2,P,K,B,E]")
    expect(kv.dtype.fits_f32 or kv.dtype.codes, "kv must be f32, f16, bf16, i8 or e4m3")
    expect(not isinstance(q.shape[2], Sym), "the width of a head must be known")
    expect(kv.shape[4] == row_width(q.shape[2], kv.dtype), "q and kv must have one head width")
    expect(not kv.dtype.codes or q.shape[2] % 4 == 0, "heads that are codes must be a multiple of 4 wide")
    sizes = (*q.shape[1:], *kv.shape[2:])
    expect(not any(isinstance(d, Sym) for d in sizes), "heads, their width and the size of a page must be known")
    expect(q.shape[1] % kv.shape[2] == 0, "the heads of q must be a multiple of the heads of kv")
    ints = (page_table, query_start, query_len, context_len)
    expect(all(x.dtype.name == "i32" for x in ints), "the page table and the lengths must be i32")
    expect(page_table.rank == 2 and page_table.shape[0] != 0, "page_table must be [S,M] of at least one sequence")
    expect(all(x.shape == page_table.shape[:1] for x in ints[1:]), "query_start, query_len, context_len must be [S]")
    expect(scale > 0 and window >= 0 and softcap >= 0, "scale must be positive, window and softcap not negative")
    return q


def _reference(q, kv, page_table, query_start, query_len, context_len, *, scale, window, softcap):
    import torch

    block, group = kv.shape[3], q.shape[1] // kv.shape[2]
    numbers, scales = parts(kv)
    out = torch.zeros_like(q, dtype=torch.float32)
    lengths = zip(query_start.tolist(), query_len.tolist(), context_len.tolist(), strict=True)
    for s, (start, n, context) in enumerate(lengths):
        at = torch.arange(context, device=q.device)
        pages = page_table[s, at // block].long()
        both = (x[pages, :, at % block] for x in numbers)
        of = (None, None) if scales is None else (x[pages, :, at % block] for x in scales)
        k, v = (decode(x, y, torch.float32).repeat_interleave(group, 1) for x, y in zip(both, of, strict=True))
        score = torch.einsum("qhe,khe->hqk", q[start : start + n].float(), k) * scale
        if softcap:
            score = softcap * torch.tanh(score / softcap)
        age = torch.arange(context - n, context, device=q.device)[:, None] - at
        seen = (age >= 0) & (age < window) if window else age >= 0
        weight = score.masked_fill(~seen, float("-inf")).softmax(-1)
        out[start : start + n] = torch.einsum("hqk,khe->qhe", weight, v)
    return out


def _cost(q, kv, page_table, query_start, query_len, context_len, *, scale, window, softcap):
    """Of sequences that fill their page tables: how long they are is known only when a step runs."""
    _, _, heads, block, width = kv.concrete()
    s, m = page_table.concrete()
    read = kv.dtype.size(2 * s * m * heads * block * width)
    return Cost(bytes=2 * q.nbytes + read, flops=4 * q.numel * m * block)


@op(
    types=_types,
    reference=_reference,
    cost=_cost,
    cases=lambda: tuple(cases()),
    axes={"q": "THE", "kv": "2.KB.", "page_table": "SM", "query_start": "S", "query_len": "S", "context_len": "S"},
)
def paged_attention(q, kv, page_table, query_start, query_len, context_len, *, scale, window=0, softcap=0.0):
    """y[T,H,E] = softmax(cap(scale * q k^T)) v over the pages of each row's sequence, causal; fp32 softmax.

    q[T,H,E]; kv[2,P,K,B,E], keys and values in pages of B tokens, H a multiple of K, or [2,P,K,B,E+4] of i8 or e4m3:
    codes with a scale a token and head, see `forge.quant.cells`; numbers of another type than q's are converted to that
    before they are multiplied. page_table i32[S,M].
    Sequence s owns the rows query_start[s] .. + query_len[s] of q, which are its last tokens, and its keys are the
    positions 0 .. context_len[s] - 1: position j lies in page page_table[s, j // B] at offset j % B. query_len may be
    0. A row that no sequence owns gives zeros. With window w > 0 a query at p sees the keys p - w < j <= p; with
    softcap c > 0 a score x becomes c tanh(x / c). Source: arXiv 2205.14135, 2309.06180.
    """


def _lanes(s):
    """Lanes that look through s sequences at once; at least a wave's, so that small batches share their code."""
    return max(32, next_power_of_2(s))


def _blocks(t, s, block_q):
    """A bound on the blocks of block_q rows that s sequences of t rows in all have: none is empty, s are ragged."""
    return min(t, t // block_q + s)


def _splits(q, kv, page_table, config, compute_units):
    """Parts that the keys are split into: about four programs a compute unit, none of under MIN_KEYS keys."""
    (t, heads, _), (s, m) = q.shape, page_table.shape
    kv_heads, block = kv.shape[2:4]
    programs = _blocks(t, s, max(1, config["BLOCK_M"] * kv_heads // heads)) * kv_heads
    return min(cdiv(4 * compute_units, max(1, programs)), cdiv(m * block, config["MIN_KEYS"]))


def _partials(call, config):
    """The attention [T,H,splits,E] of each part of the keys, and log2 of the sum of its exponentials [T,H,splits]."""
    splits = _splits(*call.types[:3], config, call.target.compute_units)
    return () if splits == 1 else parts_of(call, config)


def parts_of(call, config):
    """The same, though it be one part."""
    q, kv, page_table = call.types[:3]
    splits = _splits(q, kv, page_table, config, call.target.compute_units)
    t, heads, width = q.concrete()
    return tensor("f32", t, heads, splits, width), tensor("f32", t, heads, splits)


SPLIT_SPACE = Space(
    BLOCK_M=(16, 32), BLOCK_N=(32, 16, 64, 128), MIN_KEYS=(256, 128, 64), num_warps=(4, 2, 8), num_stages=(1, 2, 3)
)


@paged_attention.kernel(space=SPLIT_SPACE, workspace=_partials)
def paged_split(site, out, q, *operands, **attrs):
    """For few rows a sequence: the keys are split over programs, and a second kernel combines the parts."""
    if not site.work:
        return _launch(site, out, out, q, *operands, split=False, **attrs)
    return split_and_combine(site, out, q, *operands, **attrs)


def split_and_combine(site, out, q, *operands, residual=None, rounded=None, **attrs):
    """Both launches. With `residual`, a bool, `out` are planes of codes of what is rounded to `rounded` before."""
    query_start, query_len, context_len = operands[2:]
    parts, sums = site.work
    first = _launch(site, parts, sums, q, *operands, split=True, **attrs)
    (t, heads, width), splits = q.shape, parts.shape[2]
    block_e = next_power_of_2(width)
    second = site.launch(
        _combine, (t, heads), out, parts, sums, query_start, query_len, context_len,
        len(query_len), heads, splits, E=width, BLOCK_E=block_e, WINDOW=attrs["window"],
        BLOCK_I=min(next_power_of_2(splits), 8192 // block_e), BLOCK_S=_lanes(len(query_len)),
        RESIDUAL=residual, OUT=rounded,
    )  # fmt: skip
    return [first, second]


@paged_attention.kernel(
    space=Space(BLOCK_M=(64, 128, 32, 16), BLOCK_N=(32, 16, 64, 128), num_warps=(8, 4), num_stages=(1, 2, 3))
)
def paged_rows(site, out, q, *operands, **attrs):
    """A program a block of rows of one kv head."""
    return _launch(site, out, out, q, *operands, split=False, **attrs)


def _launch(
    site, to, sums, q, kv, page_table, query_start, query_len, context_len, *, split, scale, window, softcap
):  # fmt: skip
    site.dense("paged_attention", kv=kv)
    t, heads, width = q.shape
    splits, min_keys = (to.shape[2], site["MIN_KEYS"]) if split else (1, 1)
    _, _, kv_heads, block, _ = kv.shape
    pages, scales = parts(kv)
    group, s = heads // kv_heads, len(query_len)
    block_m = max(site["BLOCK_M"], next_power_of_2(group))
    grid = (_blocks(t, s, block_m // group), kv_heads, splits)
    wide = scales is not None and site.target.flushes_halves  # which would lose the smallest codes and weights
    return site.launch(
        _paged, grid, to, sums, q, *pages, *(scales if scales is not None else (None, None)),
        page_table, query_start, query_len, context_len,
        t, s, splits, q.stride(0), q.stride(1), page_table.stride(0),
        K=kv_heads, G=group, B=block, E=width, PAGE=kv[0, 0, 0].numel(),
        PRODUCT=element("f32" if wide else type_name(q.dtype)),
        PTX=site.target.unpacks_fp8, SPLIT=split, MIN_KEYS=min_keys, WINDOW=window, SCALE=scale,
        SOFTCAP=softcap, BLOCK_M=block_m, BLOCK_E=max(16, next_power_of_2(width)), BLOCK_S=_lanes(s),
    )  # fmt: skip


paged_attention.kernel(on="cpu")(paged_torch)
