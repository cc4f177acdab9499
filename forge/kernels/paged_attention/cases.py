"""Batches to try paged attention on: sequences of chosen lengths, whose pages lie in random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from forge.graph.op import Case
from forge.graph.types import tensor
from forge.kernels import fills
from forge.language import cdiv
from forge.quant.cells import page_type, parts

if TYPE_CHECKING:
    import torch

Lengths = Sequence[tuple[int, int]]  # (query tokens, keys) of each sequence


def batch(
    name: str,
    lengths: Lengths,
    *,
    heads: int = 4,
    kv_heads: int = 2,
    width: int = 64,
    block: int = 16,
    dt: str = "f16",
    kv: str = "",
    rows: int = 0,
    spread: float = 1.0,
    small: bool = True,
    **attrs: Any,
) -> Case:
    """A case of paged attention, on pages of the type `kv`, by default that of q, `dt`.

    `rows` more rows of q belong to no sequence; `spread` scales q.

    What must not be read holds NaN: pages of nobody, which unused entries of the page table name, and the unused end
    of every last page. Sequences own the rows of q in the order opposite to their own.
    """
    t, s = sum(n for n, _ in lengths) + rows, len(lengths)
    pages = sum(cdiv(context, block) for _, context in lengths) + 3
    longest = max(cdiv(context, block) for _, context in lengths) + 1
    q, cache = tensor(dt, t, heads, width), page_type(kv or dt, pages, kv_heads, block, width)
    table, ints = tensor("i32", s, longest), tensor("i32", s)

    def make(generator: torch.Generator) -> list[Any]:
        import torch

        order = torch.randperm(pages, generator=generator).int()
        state = fills.pages(generator, cache)
        _, scales = parts(state)
        kept = state if scales is None else scales  # a scale that is NaN makes its codes NaN
        kept[:, order[-3:].long()] = float("nan")
        page_table = order[-1].repeat(s, longest)
        taken, end = 0, t - rows
        starts = []
        for i, (n, context) in enumerate(lengths):
            count = cdiv(context, block)
            page_table[i, :count] = order[taken : taken + count]
            if count:
                kept[:, order[taken + count - 1], :, context - (count - 1) * block :] = float("nan")
            taken, end = taken + count, end - n
            starts.append(end)
        queries = fills.scaled(spread)(generator, q)
        lens, contexts = zip(*lengths, strict=True)
        return [queries, state, page_table, *(torch.tensor(x, dtype=torch.int32) for x in (starts, lens, contexts))]

    attrs = {"scale": width**-0.5, "window": 0, "softcap": 0.0} | attrs
    return Case(name, (q, cache, table, ints, ints, ints), attrs, make=make, small=small)


def cases() -> Iterator[Case]:
    """Small ones first; those with `small=False` are for machines that are quick at it."""
    mixed = ((1, 40), (19, 35), (1, 1), (5, 16), (0, 1), (1, 17))
    decode = ((1, 300), (1, 1), (1, 16), (1, 257), (0, 1))
    for dt in ("f16", "bf16", "f32"):
        yield batch(f"mixed {dt}", mixed, dt=dt)
    yield batch("decode", decode, heads=8, kv_heads=1, rows=2)
    yield batch("prefill", ((45, 45),), kv_heads=4, rows=3)
    yield batch("window 33", ((1, 300), (1, 20), (40, 70), (1, 34)), window=33)
    yield batch("soft cap", ((1, 300), (9, 25)), softcap=5.0, spread=8)
    yield batch("huge scores", ((1, 30), (20, 40)), spread=1e4)
    yield batch("pages of 12, groups of 7", ((1, 50), (6, 24), (1, 12)), heads=14, block=12)
    # 80 and 96 have one scale, because their code differs by a bound alone and need not be compiled twice
    for width, scale in ((32, 0.2), (80, 0.1), (96, 0.1), (128, 0.08), (256, 0.06)):
        many = ((1, 700), (3, 600), (70, 200), (1, 31), (130, 130), (0, 1), (1, 512))
        yield batch(f"width {width}", many, heads=8, width=width, scale=scale, small=False)
        few = ((1, 1300), (1, 40), (2, 9))
        yield batch(f"width {width} decode", few, heads=8, width=width, scale=scale, small=False)
    yield batch("window and cap", ((1, 900), (300, 800)), heads=8, width=128, window=200, softcap=30.0, small=False)
    yield batch("bf16 of f16", mixed, kv="bf16")
    for kv in ("i8", "e4m3"):
        for dt in ("f16", "bf16", "f32"):
            yield batch(f"mixed {kv} of {dt}", mixed, dt=dt, kv=kv)
        yield batch(f"{kv} decode", decode, heads=8, kv_heads=1, rows=2, kv=kv)
        yield batch(f"{kv} prefill", ((45, 45),), kv_heads=4, rows=3, kv=kv)
        yield batch(f"{kv} window 33", ((1, 300), (1, 20), (40, 70), (1, 34)), window=33, kv=kv)
        yield batch(f"{kv} soft cap", ((1, 300), (9, 25)), softcap=5.0, spread=8, kv=kv)
        yield batch(f"{kv} pages of 12, groups of 7", ((1, 50), (6, 24)), heads=14, block=12, kv=kv)
        for width in (80, 128, 256):
            for name, lengths in (("", ((1, 700), (70, 200))), (" decode", few)):
                name = f"{kv} width {width}{name}"
                yield batch(name, lengths, heads=8, width=width, scale=0.08, kv=kv, small=False)
    yield batch("64 sequences", tuple((1, 1 + 7 * i) for i in range(64)), heads=4, width=64, rows=3, small=False)
