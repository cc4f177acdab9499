"""The sum of two tensors: the residual stream and what a layer adds to it."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, tl


def _types(a, b):
    expect(a.rank == 2 and a.shape == b.shape, "a and b must have one shape, [T,D]")
    expect(a.dtype.fits_f32 and b.dtype.fits_f32, "a and b must be f32, f16 or bf16")
    return a


def _reference(a, b):
    return a.float() + b.float()


def _cost(a, b):
    return Cost(bytes=2 * a.nbytes + b.nbytes, flops=a.numel)


def _cases():
    def case(name, a, b, t, d, **more):
        return Case(name, (tensor(a, t, d), tensor(b, t, d)), **more)

    for a, b in (("f32", "f16"), ("f32", "bf16"), ("f32", "f32"), ("f16", "f16")):
        yield case(f"{a} + {b}", a, b, 3, 1280)
    for t, d in ((1, 1), (7, 1031), (2, 1025)):
        yield case(f"f32 + f16 {t}x{d}", "f32", "f16", t, d)
    yield case("rows apart", "f32", "f16", 5, 640, strided=True)
    yield case("huge and tiny", "f32", "f32", 4, 512, fills={"a": fills.scaled(1e30), "b": fills.scaled(1e-30)})


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"a": "TD", "b": "TD"})
def add(a, b):
    """y[T,D] = a[T,D] + b[T,D] in fp32, rounded once to the type of a.

    Takes f32, f16 or bf16 in any mix; rows may lie apart, elements of a row may not.
    """


@jit
def _add(y_ptr, a_ptr, b_ptr, y_stride, a_stride, b_stride, D, BLOCK: tl.constexpr, DEPENDENT: tl.constexpr):
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < D
    a = tl.load(a_ptr + row * a_stride + column, mask).to(tl.float32)
    b = tl.load(b_ptr + row * b_stride + column, mask).to(tl.float32)
    tl.store(y_ptr + row * y_stride + column, (a + b).to(y_ptr.dtype.element_ty), mask)


@add.kernel(space=Space(BLOCK=(1024, 512, 2048), num_warps=(4, 2, 8)))
def add_flat(site, y, a, b):
    """A program a block of a row."""
    t, d = a.shape
    return site.launch(_add, (t, cdiv(d, site["BLOCK"])), y, a, b, y.stride(0), a.stride(0), b.stride(0), d)


@add.kernel(on="cpu")
def add_torch(site, y, a, b):
    """torch promotes a mix of types to f32."""
    import torch

    return lambda: torch.add(a, b, out=y)
