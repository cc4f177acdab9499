"""Rows of a tensor by number: the tokens whose logits are wanted."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import TensorType, tensor
from forge.kernels import fills
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, tl


def _types(x, rows):
    expect(x.rank == 2 and not x.dtype.quantized, "x must be unquantized [T,D]", "embed reads quantized rows")
    expect(rows.rank == 1 and rows.dtype.name == "i32", "rows must be i32[R]")
    return TensorType((*rows.shape, x.shape[1]), x.dtype)


def _reference(x, rows):
    return x[rows.long()]


def _cost(x, rows):
    return Cost(bytes=rows.nbytes + 2 * x.dtype.size(rows.numel * x.shape[1]))


def _cases():
    def case(name, dt, t, d, rows, **more):
        types = (tensor(dt, t, d), tensor("i32", len(rows)))
        return Case(name, types, fills={"rows": fills.constant(rows)}, **more)

    for dt in ("f32", "f16", "bf16"):
        yield case(dt, dt, 9, 1280, [8, 0, 3])
    yield case("one of one", "f32", 1, 1, [0])
    yield case("again and again", "f32", 5, 1031, [4, 4, 0, 4])
    yield case("rows apart", "f32", 5, 1025, [1, 3], strided=True)


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"x": "TD", "rows": "R"})
def take(x, rows):
    """y[R,D] = x[rows[r]]: a copy of the rows of x[T,D] that rows[R] names, each in 0 .. T-1.

    A GPU does not check row numbers. Rows of x may lie apart, elements of a row may not.
    """


@jit
def _take(y_ptr, x_ptr, rows_ptr, x_stride, D, BLOCK: tl.constexpr, DEPENDENT: tl.constexpr):
    wait_for_earlier(DEPENDENT)
    r = tl.program_id(0).to(tl.int64)
    row = tl.load(rows_ptr + r).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < D
    tl.store(y_ptr + r * D + column, tl.load(x_ptr + row * x_stride + column, mask), mask)


@take.kernel(space=Space(BLOCK=(1024, 512, 2048), num_warps=(4, 2, 8)))
def take_rows(site, y, x, rows):
    """A program a block of a row."""
    count, d = y.shape
    return site.launch(_take, (count, cdiv(d, site["BLOCK"])), y, x, rows, x.stride(0), d)


@take.kernel(on="cpu")
def take_torch(site, y, x, rows):
    """One call; it raises for a row number out of range."""
    import torch

    return lambda: torch.index_select(x, 0, rows, out=y)
