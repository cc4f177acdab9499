"""A linear, the residual sum and its norm, which adds the parts of the product: so that takes no node of its own."""

from __future__ import annotations

from dataclasses import replace

from forge.graph.op import Case, Cost, op
from forge.graph.types import tensor
from forge.kernels.add_rms_norm import add_rms_norm, add_rms_norm_body
from forge.kernels.linear import dozens, linear, linear_tall
from forge.kernels.quantize_q8 import quantize_q8
from forge.language import next_power_of_2

WIDEST = 8192  # columns of a row that are read once


def _equals(x, w, a, norm, *, residual, delta, eps, out):
    return add_rms_norm(a, linear(quantize_q8(x, residual=residual), w, out=delta), norm, eps=eps, out=out)


def _product(call):
    """The call of `linear` within."""
    x, w, a, _ = call.types
    return replace(
        call, op=linear, types=(x, w, None), results=(tensor("f32", *a.shape),), attrs={"out": call.attrs["delta"]}
    )


def _cost(x, w, a, norm, *, residual, delta, eps, out):
    product = linear.cost(x, w, None, out=delta)
    return Cost(bytes=product.bytes + 2 * a.nbytes + norm.nbytes, flops=product.flops + 6 * a.numel)


def _cases():
    for name, t, n, k, w in (
        ("few", 5, 96, 256, "q4_K"),
        ("upper bits", 20, 67, 512, "q6_K"),
        ("parts", 9, 40, 4096, "q8_0"),
    ):
        types = (tensor("f16", t, k), tensor(w, n, k), tensor("f32", t, n), tensor("f32", n))
        attrs = dict(residual=True, delta="f16", eps=1e-6, out="f16")
        yield Case(name, types, attrs)
        if t == 5:
            yield Case("rows apart", types, attrs, strided=True)


@op(
    equals=_equals,
    cost=_cost,
    cases=lambda: tuple(_cases()),
    axes={"x": "TK", "w": "NK", "a": "TN", "norm": "N"},
)
def linear_q8_add_rms_norm(x, w, a, norm, *, residual=False, delta="f16", eps=1e-6, out="f16"):
    """(a + d, rms_norm(a + d) * norm) with d[T,N] = linear_q8(x[T,K], w[N,K]); a[T,N], norm[N].

    Equals `linear_q8`, whose result is `delta`, and `add_rms_norm`, and raises what they raise.
    """


def _workspace(call, config):
    turned, parts = dozens.workspace(_product(call), config)
    return turned, tensor("f32", max(1, parts.shape[0]), *call.types[2].concrete())


@linear_q8_add_rms_norm.kernel(
    when=lambda call: linear_tall.when(_product(call)),
    rounds=lambda call: linear_tall.rounds(_product(call)),
    workspace=_workspace,
    space=linear_tall.space,
)
def linear_tall_add_rms_norm(site, total, y, x, w, a, norm, *, residual, delta, eps, out):
    """`linear_tall` in parts, x as it is, and the norm of the residual with all of them."""
    turned, parts = site.work
    rows, width = a.shape
    args = (total, y, a, parts, norm, a.stride(0), width, rows, rows * width, eps)
    sizes = dict(PARTS=parts.shape[0], D=width, ROWS=1, BLOCK=min(WIDEST, next_power_of_2(width)))
    return [*dozens.products(site, parts, turned, x, w, None), site.launch(add_rms_norm_body, (rows,), *args, **sizes)]
