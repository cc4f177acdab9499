"""Activations as int8 codes in groups of 32: what the integer kernels multiply quantized weights by."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import DTYPES, TensorType, tensor
from forge.kernels import fills
from forge.kernels.device.codes import store_codes
from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.device.tile import operand
from forge.language import cdiv, jit, tl


def _types(x, *, residual):
    expect(x.rank == 2 and x.dtype.fits_f32, "x must be f32, f16 or bf16 [T,D]")
    width = x.shape[-1]
    expect(isinstance(width, int) and width % 32 == 0, "the width of x must be a multiple of 32")
    return TensorType(x.shape, DTYPES["a16" if residual else "a8"])


def _reference(x, *, residual):
    from forge.quant.a8 import steps_of

    d, codes = steps_of(x, 256 if residual else 1)
    return (d * codes).flatten(-2)


def _cost(x, *, residual):
    return Cost(bytes=x.nbytes + _types(x, residual=residual).nbytes, flops=4 * x.numel)


def _cases():
    def case(name, x, *shape, residual=False, **options):
        return Case(name, (tensor(x, *shape),), {"residual": residual}, **options)

    for dt in ("f16", "bf16", "f32"):
        yield case(dt, dt, 3, 288)
    yield case("one group", "f16", 1, 32)
    yield case("a block and one group", "f16", 2, 1056)
    for residual, name in ((False, ""), (True, "two codes, ")):
        yield case(f"{name}rows apart", "f16", 5, 96, residual=residual, strided=True)
        yield case(f"{name}zero row", "f16", 3, 96, residual=residual, fills={"x": fills.zero_row})
        yield case(f"{name}huge", "f32", 3, 96, residual=residual, fills={"x": fills.scaled(1e30)})
        yield case(f"{name}tiny", "f32", 3, 96, residual=residual, fills={"x": fills.scaled(1e-30)})
    yield case("two codes", "f16", 3, 1056, residual=True)
    yield case("two codes of f32", "f32", 3, 288, residual=True)


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"x": "TD"})
def quantize_q8(x, *, residual=False):
    """y[T,D] = d * round(x / d) with d = max|x| / 127 over each group of 32, ties to even; a group of zeros has d = 0.

    The result is `a8`: int8 codes four a word, d in f32, and sum = d * (sum of the group's codes) in f32, by which a
    weight's minimum is multiplied. With `residual` it is `a16`: y = d * (q + h / 256), rounded to a 256th of d, with
    the int8 codes h beside q, and the sum of both. A group with a NaN or an infinity is NaN as a whole.
    """


@jit
def _quantize_q8(
    y, x_ptr, x_stride, G, GROUPS: tl.constexpr, RESIDUAL: tl.constexpr, DEPENDENT: tl.constexpr
):  # fmt: skip
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    element = group[:, None] * 32 + tl.arange(0, 32)[None, :]
    x = tl.load(x_ptr + row * x_stride + element, (group < G)[:, None], 0.0).to(tl.float32)
    store_codes(y, x, row * G + group, group < G, GROUPS, RESIDUAL)


@quantize_q8.kernel(space=Space(GROUPS=(32, 16, 64), num_warps=(4, 2, 8)))
def quantize_q8_groups(site, y, x, *, residual):
    """A program a run of groups of a row."""
    t, width = x.shape
    groups = width // 32
    grid = (t, cdiv(groups, site["GROUPS"]))
    return site.launch(_quantize_q8, grid, operand(y)[0], x, x.stride(0), groups, RESIDUAL=residual)


@quantize_q8.kernel(on="cpu")
def quantize_q8_torch(site, y, x, *, residual):
    """For eager calls; plans for the CPU keep activations in bf16 or f32."""
    from forge.quant import quantize

    def step():
        for name, plane in quantize(x, y.dtype).planes.items():
            y.planes[name].copy_(plane)

    return step
