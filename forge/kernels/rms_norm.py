"""RMSNorm over the last axis: of the residual stream, and of each head of q and k."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import TensorType, dtype, tensor
from forge.kernels import fills
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, next_power_of_2, tl


def _types(x, w, *, eps, out):
    expect(x.rank in (2, 3) and x.dtype.fits_f32, "x must be f32, f16 or bf16 [T,D] or [T,H,E]")
    expect(w.dtype.name == "f32" and w.shape == x.shape[-1:], "w must be f32 and as long as a row of x")
    expect(eps > 0, f"eps is {eps}; it must be above 0", "pass the model's attention.layer_norm_rms_epsilon")
    expect(dtype(out).fits_f32, f"out={out!r} is none of f32, f16 and bf16")
    return TensorType(x.shape, dtype(out))


def _reference(x, w, *, eps, out):
    import torch

    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * w


def _cost(x, w, *, eps, out):
    return Cost(bytes=x.nbytes + w.nbytes + dtype(out).size(x.numel), flops=4 * x.numel)


def _cases():
    def case(name, dt, *shape, out="f16", eps=1e-6, **more):
        return Case(name, (tensor(dt, *shape), tensor("f32", shape[-1])), dict(eps=eps, out=out), **more)

    for dt, out in (("f32", "f16"), ("f16", "f16"), ("f32", "bf16"), ("bf16", "bf16"), ("f32", "f32")):
        yield case(f"{dt} to {out}", dt, 3, 896, out=out)
    yield case("heads", "f16", 5, 3, 128)
    yield case("heads of 80", "bf16", 7, 5, 80, out="bf16")
    for t, d in ((1, 1), (7, 1031), (2, 513), (33, 64)):
        yield case(f"f32 {t}x{d}", "f32", t, d)
    yield case("one over a block", "f32", 2, 8193, out="f32", eps=1e-5)  # eps: code objects of the loop as well
    yield case("two blocks", "f16", 3, 16384, small=False)
    yield case("rows apart", "f32", 5, 640, strided=True)
    yield case("heads apart", "f16", 4, 6, 64, make=_heads_apart)
    yield case("zero row", "f32", 4, 512, fills={"x": fills.zero_row})
    yield case("huge", "f32", 4, 512, fills={"x": fills.scaled(1e4)})
    yield case("tiny", "f32", 4, 512, out="f32", fills={"x": fills.scaled(1e-20)})  # only eps keeps these small
    yield case("about eps", "f32", 4, 512, out="f32", fills={"x": fills.scaled(1e-3)})


def _heads_apart(generator):
    """q of a row that holds q, k and v side by side: tokens lie apart, heads do not."""
    import torch

    wide = torch.randn(4, 1000, generator=generator).half()
    return [wide[:, 128:512].unflatten(1, (6, 64)), torch.randn(64, generator=generator)]


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"x": ("TD", "THD"), "w": "D"})
def rms_norm(x, w, *, eps, out="f16"):
    """y[T,D] = x / sqrt(mean(x^2) + eps) * w[D], over the last axis of x[T,D] or x[T,H,E]; computed in fp32.

    Takes f32, f16 or bf16 and gives `out`. Tokens may lie apart (columns of a wider tensor), elements of a row may
    not. Source: arXiv 1910.07467.
    """


@jit
def _rms_norm(
    y_ptr,  # [T*H,D], dense
    x_ptr,  # [T,H,D]
    w_ptr,  # [D]
    x_stride_t,
    x_stride_h,
    rows,
    eps,
    H: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    x_row_ptr = x_ptr + row // H * x_stride_t + row % H * x_stride_h
    live = row < rows
    squares = tl.zeros((ROWS, BLOCK), tl.float32)
    x = squares
    for start in tl.static_range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        x = tl.load(x_row_ptr + column, live & (column < D), other=0.0).to(tl.float32)
        squares += x * x
    scale = tl.rsqrt(tl.sum(squares, 1) / D + eps)[:, None]
    for start in tl.static_range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        mask = live & (column < D)
        if BLOCK < D:  # the row is no longer in registers
            x = tl.load(x_row_ptr + column, mask, other=0.0).to(tl.float32)
        y = x * scale * tl.load(w_ptr + column, column < D)
        tl.store(y_ptr + row * D + column, y.to(y_ptr.dtype.element_ty), mask)


@rms_norm.kernel(space=Space(WIDEST=(8192, 4096, 2048), TILE=(1024, 2048, 512), num_warps=(8, 4, 16)))
def rms_norm_rows(site, y, x, w, *, eps, out):
    """A program a row, or several rows where rows are narrow; a row wider than WIDEST is read twice."""
    heads, width = (x.shape[1] if x.dim() == 3 else 1), x.shape[-1]
    rows = x.shape[0] * heads
    block = min(site["WIDEST"], next_power_of_2(width))
    group = max(1, site["TILE"] // block)
    args = (y, x, w, x.stride(0), x.stride(1) if x.dim() == 3 else 0, rows, eps)
    return site.launch(_rms_norm, (cdiv(rows, group),), *args, H=heads, D=width, ROWS=group, BLOCK=block)


def normalization(y, x, w, eps, scaled, scale):
    """A callable that sets y = rms_norm(x) through `scaled`, f32 of x's shape, and `scale`, f32 of one a row.

    Five short torch calls: torch's own rms_norm takes longer on a CPU, and allocates.
    """
    import torch

    norm, dims, width = torch.linalg.vector_norm, (x.dim() - 1,), x.shape[-1]
    epsilon = torch.tensor(eps)

    def step():
        norm(x, 2, dims, True, dtype=torch.float32, out=scale)
        torch.addcmul(epsilon, scale, scale, value=1 / width, out=scale)
        scale.rsqrt_()
        torch.mul(x, scale, out=scaled)
        torch.mul(scaled, w, out=y)

    return step


def scratch(x):
    """The types of `scaled` and `scale` for `normalization`."""
    return TensorType(x.shape, dtype("f32")), TensorType((*x.shape[:-1], 1), dtype("f32"))


@rms_norm.kernel(on="cpu", workspace=lambda call, config: scratch(call.types[0]))
def rms_norm_torch(site, y, x, w, *, eps, out):
    """Row norms, then two products."""
    return normalization(y, x, w, eps, *site.work)
