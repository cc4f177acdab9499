"""A tensor times a number: embeddings, branches or logits that a model scales."""

from __future__ import annotations

import math

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, tl


def _types(x, *, factor):
    expect(x.rank == 2 and x.dtype.fits_f32, "x must be f32, f16 or bf16 [T,D]")
    expect(math.isfinite(factor), f"factor={factor} must be finite")
    return x


def _reference(x, *, factor):
    return x.float() * factor


def _cost(x, *, factor):
    return Cost(bytes=2 * x.nbytes, flops=x.numel)


def _cases():
    for dt in ("f16", "bf16", "f32"):
        yield Case(dt, (tensor(dt, 3, 1280),), {"factor": 33.94112549695428})
    for t, d in ((1, 1), (7, 1031), (2, 1025)):
        yield Case(f"f32 {t}x{d}", (tensor("f32", t, d),), {"factor": -0.1})
    yield Case("rows apart", (tensor("f16", 5, 640),), {"factor": 3.0}, strided=True)
    yield Case("huge", (tensor("f32", 4, 512),), {"factor": 1e-8}, fills={"x": fills.scaled(1e38)})


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"x": "TD"})
def scale(x, *, factor):
    """y[T,D] = factor * x[T,D] in fp32, rounded once to the type of x.

    Takes f32, f16 or bf16; rows may lie apart, elements of a row may not.
    """


@jit
def _scale(y_ptr, x_ptr, y_stride, x_stride, D, FACTOR: tl.constexpr, BLOCK: tl.constexpr, DEPENDENT: tl.constexpr):
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < D
    x = tl.load(x_ptr + row * x_stride + column, mask).to(tl.float32)
    tl.store(y_ptr + row * y_stride + column, (x * FACTOR).to(y_ptr.dtype.element_ty), mask)


@scale.kernel(space=Space(BLOCK=(1024, 512, 2048), num_warps=(4, 2, 8)))
def scale_flat(site, y, x, *, factor):
    """A program a block of a row."""
    t, d = x.shape
    grid = (t, cdiv(d, site["BLOCK"]))
    return site.launch(_scale, grid, y, x, y.stride(0), x.stride(0), d, FACTOR=float(factor))


@scale.kernel(on="cpu")
def scale_torch(site, y, x, *, factor):
    """torch multiplies f16 and bf16 in f32 and rounds once."""
    import torch

    return lambda: torch.mul(x, factor, out=y)
