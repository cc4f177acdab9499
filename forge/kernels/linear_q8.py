"""A linear that takes its activations as int8 codes, where codes are quicker than the numbers themselves."""

from __future__ import annotations

from dataclasses import replace

from forge.graph.op import Case, op
from forge.graph.types import tensor
from forge.kernels.linear import linear, linear_library, linear_tall, linear_tile
from forge.kernels.quantize_q8 import quantize_q8


def _equals(x, w, bias=None, *, residual, out):
    return linear(quantize_q8(x, residual=residual), w, bias, out=out)


def _cost(x, w, bias, *, residual, out):
    return linear.cost(x, w, bias, out=out)


def _cases():
    for w in ("q4_K", "q6_K"):
        types = (tensor("f16", 513, 256), tensor(w, 67, 256), None)
        yield Case(f"f16 x {w}", types, {"residual": True, "out": "f16"}, small=False)
    for t, w in ((12, "q4_K"), (40, "q6_K")):
        types = (tensor("f16", t, 256), tensor(w, 67, 256), tensor("f32", 67))
        yield Case(f"{t} tokens x {w}", types, {"residual": True, "out": "f16"})


@op(
    equals=_equals,
    cost=_cost,
    cases=lambda: tuple(_cases()),
    axes={"x": "TK", "w": "NK", "bias": "N"},
    repeats=True,
)
def linear_q8(x, w, bias=None, *, residual=False, out="f16"):
    """y[T,N] = quantize_q8(x)[T,K] @ w[N,K]^T + bias[N]; raises what `linear` and `quantize_q8` raise.

    A few tokens are computed as this says, with x quantized once for all linears that take it. More are multiplied in
    fp16 anyway: there x is taken as it is, which is quicker and more exact than its codes are.
    """


def _plain(call):
    """The call of `linear` that takes x as it is."""
    return replace(call, op=linear, attrs={"out": call.attrs["out"]})


def _as_it_is(kernel):
    """What a kernel of `linear` serves, wants, is tuned over and rounds, of the call that takes x as it is."""
    return dict(
        when=lambda call: kernel.when(_plain(call)),
        workspace=lambda call, config: kernel.workspace(_plain(call), config),
        space=kernel.space,
        rounds=lambda call: kernel.rounds(_plain(call)),
    )


@linear_q8.kernel(**_as_it_is(linear_library))
def linear_q8_library(site, y, x, w, bias, *, residual, out):
    """The weight dequantized to fp16, and the product by cuBLAS or hipBLASLt."""
    return linear_library.build(site, y, x, w, bias, out=out)


def _narrow(call):
    """Whether x and the result are in fp16, in which the tiles multiply: a wider result is made of codes."""
    return call.types[0].dtype.name == "f16" and call.attrs["out"] == "f16"


@linear_q8.kernel(**_as_it_is(linear_tile) | {"when": _narrow})
def linear_q8_tile(site, y, x, w, bias, *, residual, out):
    """Tiles of tokens and rows of the weight, on fp16 matrix units."""
    return linear_tile.build(site, y, x, w, bias, out=out)


@linear_q8.kernel(**_as_it_is(linear_tall))
def linear_q8_tall(site, y, x, w, bias, *, residual, out):
    """A tile of the weight's rows by every token."""
    return linear_tall.build(site, y, x, w, bias, out=out)
