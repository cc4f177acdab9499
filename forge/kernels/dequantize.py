"""Dequantize: a block-typed tensor as a dense one."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import TensorType, dtype, tensor
from forge.kernels.device.tile import load_tile, operand
from forge.language import cdiv, jit, tl
from forge.quant import block_types, dense


def _types(w, *, out):
    expect(w.rank == 2 and w.dtype.quantized, "w must be a block type [N,K]")
    expect(dtype(out).fits_f32, f"out={out!r} is none of f32, f16 and bf16")
    return TensorType(w.shape, dtype(out))


def _reference(w, *, out):
    return w


def _cost(w, *, out):
    return Cost(bytes=w.nbytes + TensorType(w.shape, dtype(out)).nbytes, flops=2 * w.numel)


def _cases():
    for name in block_types():
        yield Case(name, (tensor(name, 5, 3 * dtype(name).block),), {"out": "f32"})
    for out in ("f16", "bf16"):
        yield Case(f"to {out}", (tensor("q4_K", 3, 512),), {"out": out})
    yield Case("a8", (tensor("a8", 3, 160),), {"out": "f16"})
    yield Case("a16", (tensor("a16", 3, 160),), {"out": "f32"})
    yield Case("one block", (tensor("q5_0", 1, 32),), {"out": "f32"})
    yield Case("wide", (tensor("q6_K", 67, 2304),), {"out": "f32"}, small=False)


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"w": "NK"})
def dequantize(w, *, out="f16"):
    """y[N,K] = scale * code - minimum of w[N,K]; in fp32, rounded once to `out`.

    Takes every block type, a8 and a16. Exact in f32. Source: ggml's `dequantize_row_*`.
    """


@jit
def _dequantize(y_ptr, w, start, N, K, W: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr):
    first = tl.program_id(0) * ROWS
    k0 = tl.program_id(1) * BLOCK_K
    tile = load_tile(w, W, start + first, start + N, k0, K, ROWS, BLOCK_K)
    k = k0 + tl.arange(0, BLOCK_K)
    row = first + tl.arange(0, ROWS)
    mask = (row < N)[:, None] & (k < K)[None, :]
    tl.store(y_ptr + row.to(tl.int64)[:, None] * K + k[None, :], tile.to(y_ptr.dtype.element_ty), mask)


@dequantize.kernel(space=Space(ROWS=(2, 1, 4), BLOCK_K=(1024, 512, 2048), num_warps=(4, 8)))
def dequantize_tile(site, y, w, *, out):
    """A program a tile of rows and columns."""
    return dequantize_rows(site, y, w, 0)


def dequantize_rows(site, y, w, start):
    """A launch that fills y[N,K] with rows `start` and up of w; `site` holds the configuration of `dequantize_tile`."""
    n, k = y.shape
    grid = (cdiv(n, site["ROWS"]), cdiv(k, site["BLOCK_K"]))
    planes, form = operand(w)
    return site.launch(_dequantize, grid, y, planes, start, n, k, W=form)


@dequantize.kernel(on="cpu")
def dequantize_torch(site, y, w, *, out):
    """For eager calls: a plan for the CPU stores its weights dense and has nothing to dequantize."""
    return lambda: y.copy_(dense(w))
