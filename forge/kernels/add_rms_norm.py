"""The residual sum and its RMSNorm in one pass: both stand between any two parts of a layer."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, op
from forge.graph.types import dtype, tensor
from forge.kernels import fills
from forge.kernels.add import add
from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.rms_norm import normalization, rms_norm, scratch
from forge.language import cdiv, jit, next_power_of_2, tl


def _equals(a, b, w, *, eps, out):
    total = add(a, b)
    return total, rms_norm(total, w, eps=eps, out=out)


def _cost(a, b, w, *, eps, out):
    return Cost(bytes=2 * a.nbytes + b.nbytes + w.nbytes + dtype(out).size(a.numel), flops=5 * a.numel)


def _cases():
    def case(name, a, b, t, d, out="f16", eps=1e-6, **more):
        types = (tensor(a, t, d), tensor(b, t, d), tensor("f32", d))
        return Case(name, types, dict(eps=eps, out=out), **more)

    for b, out in (("f16", "f16"), ("bf16", "bf16"), ("f32", "f32")):
        yield case(f"f32 + {b}", "f32", b, 3, 896, out)
    for t, d in ((1, 1), (7, 1031), (2, 513), (33, 64)):
        yield case(f"{t}x{d}", "f32", "f16", t, d)
    yield case("one over a block", "f32", "f16", 2, 8193, eps=1e-5)  # eps: code objects of the loop as well
    yield case("rows apart", "f32", "f16", 5, 640, strided=True)
    yield case("zero row", "f32", "f32", 4, 512, "f32", fills={"a": fills.zero_row, "b": fills.zero_row})
    yield case("huge", "f32", "f16", 4, 512, fills={"a": fills.scaled(1e6)})
    both = {"a": fills.scaled(1e-20), "b": fills.scaled(1e-20)}
    yield case("tiny", "f32", "f32", 4, 512, "f32", fills=both)  # only eps keeps these small


@op(equals=_equals, cost=_cost, cases=lambda: tuple(_cases()), axes={"a": "TD", "b": "TD", "w": "D"})
def add_rms_norm(a, b, w, *, eps, out="f16"):
    """(a + b, rms_norm(a + b) * w): a[T,D] and b[T,D], w[D]; computed in fp32, the sum in the type of a.

    Equals `add`, then `rms_norm`, and raises what they raise; the sum is read back from no memory.
    """


@jit
def _addend(b_ptr, at, mask, stride, PARTS: tl.constexpr):
    """f32 elements of b, or the sum of its parts, which lie `stride` apart."""
    b = tl.load(b_ptr + at, mask, other=0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        b += tl.load(b_ptr + part * stride + at, mask, other=0.0)
    return b


@jit
def add_rms_norm_body(
    sum_ptr,  # [T,D], dense
    y_ptr,  # [T,D], dense
    a_ptr,  # [T,D]
    b_ptr,  # [T,D], or f32[PARTS,T,D]: parts of it
    w_ptr,  # [D]
    a_stride,
    b_stride,
    rows,
    part_stride,
    eps,
    PARTS: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    live = row < rows
    squares = tl.zeros((ROWS, BLOCK), tl.float32)
    total = squares
    for start in tl.static_range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        mask = live & (column < D)
        a = tl.load(a_ptr + row * a_stride + column, mask, other=0.0).to(tl.float32)
        total = a + _addend(b_ptr, row * b_stride + column, mask, part_stride, PARTS)
        squares += total * total
        tl.store(sum_ptr + row * D + column, total.to(sum_ptr.dtype.element_ty), mask)
    scale = tl.rsqrt(tl.sum(squares, 1) / D + eps)[:, None]
    for start in tl.static_range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        mask = live & (column < D)
        if BLOCK < D:  # the sum is no longer in registers
            a = tl.load(a_ptr + row * a_stride + column, mask, other=0.0).to(tl.float32)
            total = a + _addend(b_ptr, row * b_stride + column, mask, part_stride, PARTS)
        y = total * scale * tl.load(w_ptr + column, column < D)
        tl.store(y_ptr + row * D + column, y.to(y_ptr.dtype.element_ty), mask)


@add_rms_norm.kernel(space=Space(WIDEST=(8192, 4096, 2048), TILE=(1024, 2048, 512), num_warps=(8, 4, 16)))
def add_rms_norm_rows(site, total, y, a, b, w, *, eps, out):
    """A program a row, or several rows where rows are narrow; a row wider than WIDEST is read twice."""
    rows, width = a.shape
    block = min(site["WIDEST"], next_power_of_2(width))
    group = max(1, site["TILE"] // block)
    args = (total, y, a, b, w, a.stride(0), b.stride(0), rows, 0, eps)
    return site.launch(add_rms_norm_body, (cdiv(rows, group),), *args, PARTS=1, D=width, ROWS=group, BLOCK=block)


@add_rms_norm.kernel(on="cpu", workspace=lambda call, config: scratch(call.types[0]))
def add_rms_norm_torch(site, total, y, a, b, w, *, eps, out):
    """The sum while it is in the cache, then its norm."""
    import torch

    normalize = normalization(y, total, w, eps, *site.work)

    def step():
        torch.add(a, b, out=total)
        normalize()

    return step
