"""Softmax over rows of any length."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, next_power_of_2, tl


def _types(x):
    expect(x.rank == 2 and x.dtype.fits_f32, "x must be f32, f16 or bf16 [T,N]")
    return x


def _reference(x):
    import torch

    return torch.softmax(x.float(), -1)


def _cost(x):
    return Cost(bytes=2 * x.nbytes, flops=4 * x.numel)


def _cases():
    def case(name, dt, t, n, **more):
        return Case(name, (tensor(dt, t, n),), **more)

    for dt in ("f32", "f16"):
        yield case(dt, dt, 3, 1000)
    yield case("bf16, two blocks", "bf16", 3, 9000)  # the first of its type: code objects of the loop as well
    for t, n in ((1, 1), (33, 31), (7, 1031), (3, 1025)):
        yield case(f"f32 {t}x{n}", "f32", t, n)
    yield case("one over a block", "f32", 3, 8193)
    yield case("long rows", "f32", 2, 100003, small=False)
    yield case("rows apart", "f32", 5, 640, strided=True)
    yield case("huge", "f32", 4, 512, fills={"x": fills.scaled(1e4)})
    yield case("huge, blocks", "f32", 4, 20000, fills={"x": fills.scaled(1e4)})
    yield case("tiny", "f32", 4, 512, fills={"x": fills.scaled(1e-20)})
    yield case("rows of -inf, inf and NaN", "f32", 6, 300, fills={"x": _edges})
    yield case("rows of -inf, inf and NaN, blocks", "f32", 6, 16389, fills={"x": _edges})


def _edges(generator, type):
    """Some -inf; but for one the same; all -inf; one inf; one NaN; and -inf but for the end."""
    inf, nan = float("inf"), float("nan")
    x = fills.normal(generator, type)
    x[0, ::3], x[1, 1:], x[2], x[3, 5], x[4, -1], x[5, :-3] = -inf, -inf, -inf, inf, nan, -inf
    return x


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"x": "TN"})
def softmax(x):
    """y[T,N] = exp(x - max) / sum(exp(x - max)) over each row of x[T,N], in fp32; rounded once to the type of x.

    Any N. An entry of -inf gives 0; a row that is -inf throughout, or holds inf or NaN, gives NaN. Rows may lie
    apart, elements of a row may not. Source: arXiv 1805.02867 (the maximum and the sum in one reading).
    """


@jit
def _softmax(
    y_ptr,  # [T,N], dense
    x_ptr,  # [T,N]
    x_stride,
    rows,
    N,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCKS: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    live = row < rows
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    base = tl.zeros((ROWS,), tl.float32)
    total = base
    x = tl.zeros((ROWS, BLOCK), tl.float32)
    for i in range(BLOCKS):
        column = i * BLOCK + tl.arange(0, BLOCK)[None, :]
        x = tl.load(x_ptr + row * x_stride + column, live & (column < N), other=float("-inf")).to(tl.float32)
        new = tl.maximum(top, tl.max(x, 1))
        base = tl.where(new == float("-inf"), 0.0, new)  # -inf - -inf would be NaN
        total = total * tl.exp(top - base) + tl.sum(tl.exp(x - base[:, None]), 1)
        top = new
    for i in range(BLOCKS):
        column = i * BLOCK + tl.arange(0, BLOCK)[None, :]
        mask = live & (column < N)
        if BLOCKS > 1:  # the row is no longer in registers
            x = tl.load(x_ptr + row * x_stride + column, mask, other=float("-inf")).to(tl.float32)
        y = tl.exp(x - base[:, None]) / total[:, None]
        tl.store(y_ptr + row * N + column, y.to(y_ptr.dtype.element_ty), mask)


@softmax.kernel(space=Space(WIDEST=(8192, 4096, 2048), TILE=(1024, 2048, 512), num_warps=(8, 4, 16)))
def softmax_rows(site, y, x):
    """A program a row, or several rows where rows are short; a row longer than WIDEST is read twice."""
    rows, n = x.shape
    block = min(site["WIDEST"], next_power_of_2(n))
    group = max(1, site["TILE"] // block)
    sizes = dict(ROWS=group, BLOCK=block, BLOCKS=cdiv(n, block))
    return site.launch(_softmax, (cdiv(rows, group),), y, x, x.stride(0), rows, n, **sizes)


@softmax.kernel(on="cpu")
def softmax_torch(site, y, x):
    """torch's own, which computes in fp32."""
    import torch

    return lambda: torch.softmax(x, 1, out=y)
