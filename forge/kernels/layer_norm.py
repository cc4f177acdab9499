"""LayerNorm over the last axis."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import TensorType, dtype, tensor
from forge.kernels import fills
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, next_power_of_2, tl


def _types(x, w, b, *, eps, out):
    expect(x.rank == 2 and x.dtype.fits_f32, "x must be f32, f16 or bf16 [T,D]")
    expect(w.dtype.name == "f32" and w.shape == x.shape[1:], "w must be f32 and as long as a row of x")
    expect(b is None or b == w, "b must be f32 and as long as a row of x")
    expect(eps > 0, f"eps is {eps}; it must be above 0", "pass the model's attention.layer_norm_epsilon")
    expect(dtype(out).fits_f32, f"out={out!r} is none of f32, f16 and bf16")
    return TensorType(x.shape, dtype(out))


def _reference(x, w, b=None, *, eps, out):
    import torch

    x = x.float()
    centred = x - x.mean(-1, keepdim=True)
    y = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps) * w
    return y if b is None else y + b


def _cost(x, w, b, *, eps, out):
    weights = w.nbytes + (b.nbytes if b else 0)
    return Cost(bytes=x.nbytes + weights + dtype(out).size(x.numel), flops=7 * x.numel)


def _cases():
    def case(name, dt, t, d, out="f16", bias=True, eps=1e-5, **more):
        types = (tensor(dt, t, d), tensor("f32", d), tensor("f32", d) if bias else None)
        return Case(name, types, dict(eps=eps, out=out), **more)

    for dt, out in (("f32", "f16"), ("f16", "f16"), ("bf16", "bf16"), ("f32", "f32")):
        yield case(f"{dt} to {out}", dt, 3, 768, out)
    yield case("no bias", "f32", 3, 768, bias=False)
    for t, d in ((1, 1), (7, 1031), (2, 513), (33, 31)):
        yield case(f"f32 {t}x{d}", "f32", t, d)
    yield case("one over a block", "f32", 2, 8193, eps=1e-6)  # eps: code objects of the loop as well
    yield case("rows apart", "f32", 5, 640, strided=True)
    yield case("zero row", "f32", 4, 512, fills={"x": fills.zero_row})
    yield case("huge", "f32", 4, 512, fills={"x": fills.scaled(1e4)})
    yield case("tiny", "f32", 4, 512, "f32", fills={"x": fills.scaled(1e-20)})  # only eps keeps these small
    yield case("far from 0", "f32", 4, 512, fills={"x": _far})  # mean(x^2) - mean(x)^2 would be all rounding
    yield case("far from 0, two blocks", "f32", 2, 9001, fills={"x": _far})


def _far(generator, type):
    return 1000 + fills.normal(generator, type)


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"x": "TD", "w": "D", "b": "D"})
def layer_norm(x, w, b=None, *, eps, out="f16"):
    """y[T,D] = (x - mean(x)) / sqrt(var(x) + eps) * w[D] + b[D] over each row of x[T,D], in fp32; b may be absent.

    var is the mean of (x - mean)^2. Takes f32, f16 or bf16 and gives `out`; rows may lie apart, elements of a row may
    not. Source: arXiv 1607.06450.
    """


@jit
def _layer_norm(
    y_ptr,  # [T,D], dense
    x_ptr,  # [T,D]
    w_ptr,  # [D]
    b_ptr,  # [D] or None
    x_stride,
    rows,
    eps,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    x_row_ptr = x_ptr + row * x_stride
    live = row < rows
    sums = tl.zeros((ROWS, BLOCK), tl.float32)
    squares = sums
    x = sums
    for start in tl.static_range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        x = tl.load(x_row_ptr + column, live & (column < D), other=0.0).to(tl.float32)
        sums += x
    mean = (tl.sum(sums, 1) / D)[:, None]
    for start in tl.static_range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        if BLOCK < D:  # the row is no longer in registers
            x = tl.load(x_row_ptr + column, live & (column < D), other=0.0).to(tl.float32)
        centred = tl.where(column < D, x - mean, 0.0)
        squares += centred * centred
    scale = tl.rsqrt(tl.sum(squares, 1) / D + eps)[:, None]
    for start in tl.static_range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        mask = live & (column < D)
        if BLOCK < D:
            x = tl.load(x_row_ptr + column, mask, other=0.0).to(tl.float32)
        y = (x - mean) * scale * tl.load(w_ptr + column, column < D)
        if b_ptr is not None:
            y += tl.load(b_ptr + column, column < D)
        tl.store(y_ptr + row * D + column, y.to(y_ptr.dtype.element_ty), mask)


@layer_norm.kernel(space=Space(WIDEST=(8192, 4096, 2048), TILE=(1024, 2048, 512), num_warps=(8, 4, 16)))
def layer_norm_rows(site, y, x, w, b, *, eps, out):
    """A program a row, or several rows where rows are narrow; a row wider than WIDEST is read three times."""
    rows, width = x.shape
    block = min(site["WIDEST"], next_power_of_2(width))
    group = max(1, site["TILE"] // block)
    grid, sizes = (cdiv(rows, group),), dict(D=width, ROWS=group, BLOCK=block)
    return site.launch(_layer_norm, grid, y, x, w, b, x.stride(0), rows, eps, **sizes)


@layer_norm.kernel(on="cpu")
def layer_norm_torch(site, y, x, w, b, *, eps, out):
    """torch's own in fp32; the result is rounded once."""
    import torch

    normalize, shape = torch.nn.functional.layer_norm, (x.shape[1],)
    return lambda: y.copy_(normalize(x.float(), shape, w, b, eps))
