"""Embedding: the rows of a table that token ids name."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import TensorType, dtype, tensor
from forge.kernels import fills
from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.device.tile import load_tile, operand
from forge.language import cdiv, jit, tl
from forge.quant import block_types, dense
from forge.quant.packed import Packed


def _types(ids, table, kept, *, out):
    expect(ids.rank == 1 and ids.dtype.name == "i32", "ids must be i32[T]")
    expect(kept is None or (kept.rank == 1 and kept.dtype.name == "i32"), "kept must be i32[S]")
    expect(table.rank == 2, "the table must be [V,D]")
    expect(table.dtype.fits_f32 or (table.dtype.quantized and not table.dtype.activation), "the table holds no weights")
    expect(dtype(out).fits_f32, f"out={out!r} is none of f32, f16 and bf16")
    return TensorType((ids.shape[0], table.shape[1]), dtype(out))


def _reference(ids, table, kept, *, out):
    return table.float()[_known(ids, kept).long()]


def _known(ids, kept):
    """The ids, with those that are kept in their places."""
    import torch

    return ids if kept is None else torch.where(ids < 0, kept[(-1 - ids).clamp(min=0)], ids)


def _cost(ids, table, kept, *, out):
    result = _types(ids, table, kept, out=out)
    return Cost(bytes=ids.nbytes + TensorType(result.shape, table.dtype).nbytes + result.nbytes, flops=result.numel)


def _cases():
    ids = {"ids": fills.integers(0, 67)}
    for name in ("f32", "f16", "bf16", *block_types()):
        yield Case(name, (tensor("i32", 5), tensor(name, 67, 512), None), {"out": "f32"}, ids)
    yield Case("q4_K to bf16", (tensor("i32", 3), tensor("q4_K", 67, 256), None), {"out": "bf16"}, ids)
    yield Case("one token, odd width", (tensor("i32", 1), tensor("f16", 67, 1031), None), {"out": "f32"}, ids)
    yield Case("half a block", (tensor("i32", 2), tensor("q8_0", 67, 32), None), {"out": "f32"}, ids)
    first_and_last = {"ids": fills.constant([66, 0, 66])}
    yield Case("first and last row", (tensor("i32", 3), tensor("q6_K", 67, 256), None), {"out": "f32"}, first_and_last)
    some_kept = {"ids": fills.constant([-1, 5, -3, 66]), "kept": fills.constant([66, 1, 0])}
    types = (tensor("i32", 4), tensor("q4_K", 67, 256), tensor("i32", 3))
    yield Case("some ids kept", types, {"out": "f32"}, some_kept)
    yield Case(
        "the id kept",
        (tensor("i32", 1), tensor("f16", 67, 32), tensor("i32", 3)),
        {"out": "f16"},
        some_kept | {"ids": fills.constant([-3])},
    )


@op(
    types=_types,
    reference=_reference,
    cost=_cost,
    cases=lambda: tuple(_cases()),
    roles={"table": "weight"},
    axes={"ids": "T", "table": "VD", "kept": "."},
)
def embed(ids, table, kept=None, *, out="f32"):
    """y[T,D] = table[ids[T]]; rounded once to `out`. With kept[S], an id of -1 - s is kept[s].

    So a step can be launched before the host knows the ids that the last one gave. The table is f32, f16, bf16 or a
    block type, which is dequantized row by row. An id outside the table gives a row of NaN on a GPU and an IndexError
    on the CPU.
    """


@jit
def _embed(y_ptr, ids_ptr, table, kept_ptr, V, D, W: tl.constexpr, BLOCK_K: tl.constexpr, DEPENDENT: tl.constexpr):
    wait_for_earlier(DEPENDENT)
    t = tl.program_id(0).to(tl.int64)
    k0 = tl.program_id(1) * BLOCK_K
    row = tl.load(ids_ptr + t)
    if kept_ptr is not None:
        row = tl.where(row < 0, tl.load(kept_ptr - 1 - row, row < 0, other=-1), row)
    known = (row >= 0) & (row < V)
    tile = load_tile(table, W, tl.where(known, row, V), V, k0, D, 1, BLOCK_K)
    tile = tl.where(known, tile, float("nan"))
    k = k0 + tl.arange(0, BLOCK_K)
    tl.store(y_ptr + t * D + k[None, :], tile.to(y_ptr.dtype.element_ty), (k < D)[None, :])


@embed.kernel(space=Space(BLOCK_K=(1024, 512, 2048), num_warps=(4, 2, 8)))
def embed_rows(site, y, ids, table, kept, *, out):
    """A program a piece of a row."""
    v, d = table.shape
    grid = (y.shape[0], cdiv(d, site["BLOCK_K"]))
    planes, form = operand(table)
    return site.launch(_embed, grid, y, ids, planes, kept, v, d, W=form)


def _layouts(call):
    """Its own bits, else what another consumer of the table wants."""
    own = call.types[1].dtype
    return {"table": ("planes" if own.quantized else f"dense:{own}", "dense:f32", "dense:f16", "dense:bf16")}


@embed.kernel(on="cpu", layouts=_layouts)
def embed_torch(site, y, ids, table, kept, *, out):
    """torch's index_select; the selected rows of a block type are dequantized."""
    import torch

    def known():
        return _known(ids, kept) if kept is not None and ids.min().item() < 0 else ids

    if isinstance(table, Packed):
        return lambda: y.copy_(dense(table.rows(known())))
    if table.dtype == y.dtype:
        return lambda: torch.index_select(table, 0, known(), out=y)
    return lambda: y.copy_(torch.index_select(table, 0, known()))
