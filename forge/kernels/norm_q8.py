"""RMSNorm, with or without the residual sum before it, straight to the int8 codes that a linear takes."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.kernels.add import add
from forge.kernels.device.codes import store_codes
from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.device.tile import element, operand
from forge.kernels.quantize_q8 import quantize_q8
from forge.kernels.rms_norm import rms_norm
from forge.language import cdiv, jit, next_power_of_2, tl


def _norm(x, w, *, eps, out, residual):
    return quantize_q8(rms_norm(x, w, eps=eps, out=out), residual=residual)


def _add_norm(a, b, w, *, eps, out, residual):
    total = add(a, b)
    return total, _norm(total, w, eps=eps, out=out, residual=residual)


def _norm_cost(x, w, *, eps, out, residual):
    return Cost(bytes=x.nbytes + w.nbytes + _codes(x, residual), flops=8 * x.numel)


def _add_norm_cost(a, b, w, *, eps, out, residual):
    return Cost(bytes=2 * a.nbytes + b.nbytes + w.nbytes + _codes(a, residual), flops=9 * a.numel)


def _codes(x, residual):
    return quantize_q8.types(x, residual=residual).nbytes


def _norm_cases():
    for name, t, d, dt in (("narrow", 3, 96, "f32"), ("wide", 2, 2048 + 32, "f32"), ("f16", 1, 896, "f16")):
        for residual in (False, True):
            attrs = dict(eps=1e-6, out="f16", residual=residual)
            more = "two codes" if residual else "one code"
            yield Case(f"{name}, {more}", (tensor(dt, t, d), tensor("f32", d)), attrs)
    types = (tensor("f32", 4, 512), tensor("f32", 512))
    attrs = dict(eps=1e-5, out="bf16", residual=True)
    yield Case("zero row in bf16", types, attrs, fills={"x": fills.zero_row})
    yield Case("rows apart", types, attrs, strided=True)


def _add_norm_cases():
    for name, t, d, b in (("narrow", 3, 96, "f16"), ("wide", 2, 8192 + 32, "f32"), ("bf16", 1, 896, "bf16")):
        types = (tensor("f32", t, d), tensor(b, t, d), tensor("f32", d))
        yield Case(name, types, dict(eps=1e-6, out="bf16" if b == "bf16" else "f16", residual=t != 3))
    types = (tensor("f32", 5, 640), tensor("f16", 5, 640), tensor("f32", 640))
    yield Case("rows apart", types, dict(eps=1e-5, out="f16", residual=True), strided=True)


@op(equals=_norm, cost=_norm_cost, cases=lambda: tuple(_norm_cases()), axes={"x": "TD", "w": "D"})
def rms_norm_q8(x, w, *, eps, out="f16", residual=False):
    """y[T,D] = quantize_q8(rms_norm(x[T,D]) * w[D]), where the norm is rounded to `out` in between."""


@op(
    equals=_add_norm, cost=_add_norm_cost, cases=lambda: tuple(_add_norm_cases()), axes={"a": "TD", "b": "TD", "w": "D"}
)
def add_rms_norm_q8(a, b, w, *, eps, out="f16", residual=False):
    """(a + b, quantize_q8(rms_norm(a + b) * w)): a[T,D] and b[T,D], w[D]; the sum in the type of a."""


@jit
def _norm_q8(
    sum_ptr,  # [T,D] dense, or None
    y,  # planes [T,D]
    a_ptr,  # [T,D]
    b_ptr,  # [T,D], or None
    w_ptr,  # f32[D]
    a_stride,
    b_stride,
    eps,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUPS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    OUT: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """Each program goes through its row for the norm, and makes the codes of GROUPS groups of 32."""
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    squares = tl.zeros([BLOCK], tl.float32)
    for start in tl.static_range(0, D, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(a_ptr + row * a_stride + column, column < D, 0.0).to(tl.float32)
        if b_ptr is not None:
            x += tl.load(b_ptr + row * b_stride + column, column < D, 0.0).to(tl.float32)
        squares += x * x
    scale = tl.rsqrt(tl.sum(squares, 0) / D + eps)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    mask = group < D // 32
    element = group[:, None] * 32 + tl.arange(0, 32)[None, :]
    x = tl.load(a_ptr + row * a_stride + element, mask[:, None], 0.0).to(tl.float32)
    if b_ptr is not None:
        x += tl.load(b_ptr + row * b_stride + element, mask[:, None], 0.0).to(tl.float32)
        tl.store(sum_ptr + row * D + element, x.to(sum_ptr.dtype.element_ty), mask[:, None])
    normed = (x * scale * tl.load(w_ptr + element, mask[:, None], 0.0)).to(OUT).to(tl.float32)
    store_codes(y, normed, row * (D // 32) + group, mask, GROUPS, RESIDUAL)


SPACE = Space(WIDEST=(4096, 8192, 2048), GROUPS=(16, 32, 8, 64), num_warps=(4, 8, 2))


def _launch(site, total, y, a, b, w, eps, out, residual):
    t, d = a.shape
    grid = (t, cdiv(d // 32, site["GROUPS"]))
    sizes = dict(D=d, BLOCK=min(site["WIDEST"], next_power_of_2(d)), RESIDUAL=residual, OUT=element(out))
    args = (total, operand(y)[0], a, b, w, a.stride(0), 0 if b is None else b.stride(0), eps)
    return site.launch(_norm_q8, grid, *args, **sizes)


@rms_norm_q8.kernel(space=SPACE)
def rms_norm_q8_parts(site, y, x, w, *, eps, out, residual):
    """Several programs a row."""
    return _launch(site, None, y, x, None, w, eps, out, residual)


@add_rms_norm_q8.kernel(space=SPACE)
def add_rms_norm_q8_parts(site, total, y, a, b, w, *, eps, out, residual):
    """Several programs a row."""
    return _launch(site, total, y, a, b, w, eps, out, residual)
