"""Gated activations straight to the int8 codes that the feed-forward layer's last linear takes."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.kernels.device.codes import store_codes
from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.device.tile import operand
from forge.kernels.geglu import geglu, gelu
from forge.kernels.quantize_q8 import quantize_q8
from forge.kernels.swiglu import silu, swiglu
from forge.language import cdiv, jit, tl


def _cost(gate, up, *, residual):
    return Cost(bytes=2 * gate.nbytes + quantize_q8.types(gate, residual=residual).nbytes, flops=9 * gate.numel)


def _cases():
    for dt, residual in (("f16", True), ("bf16", False), ("f32", True)):
        yield Case(dt, (tensor(dt, 3, 1056),) * 2, {"residual": residual})
    yield Case("one group", (tensor("f16", 1, 32),) * 2, {"residual": True})
    yield Case("rows apart", (tensor("f16", 5, 640),) * 2, {"residual": True}, strided=True)
    yield Case("zero row", (tensor("f16", 3, 96),) * 2, {"residual": True}, fills={"up": fills.zero_row})


AXES = {"gate": "TF", "up": "TF"}


def _swiglu(gate, up, *, residual):
    return quantize_q8(swiglu(gate, up), residual=residual)


def _geglu(gate, up, *, residual):
    return quantize_q8(geglu(gate, up), residual=residual)


@op(equals=_swiglu, cost=_cost, cases=lambda: tuple(_cases()), axes=AXES)
def swiglu_q8(gate, up, *, residual=False):
    """y[T,F] = quantize_q8(swiglu(gate[T,F], up[T,F])); the product is rounded to its operands' type in between."""


@op(equals=_geglu, cost=_cost, cases=lambda: tuple(_cases()), axes=AXES)
def geglu_q8(gate, up, *, residual=False):
    """y[T,F] = quantize_q8(geglu(gate[T,F], up[T,F])); the product is rounded to its operands' type in between."""


@jit
def _gated_q8(
    y, gate_ptr, up_ptr, gate_stride, up_stride, G,
    ACTIVATION: tl.constexpr, GROUPS: tl.constexpr, RESIDUAL: tl.constexpr, DEPENDENT: tl.constexpr,
):  # fmt: skip
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    mask = group < G
    element = group[:, None] * 32 + tl.arange(0, 32)[None, :]
    gate = tl.load(gate_ptr + row * gate_stride + element, mask[:, None], 0.0).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + element, mask[:, None], 0.0).to(tl.float32)
    x = (ACTIVATION(gate) * up).to(gate_ptr.dtype.element_ty).to(tl.float32)
    store_codes(y, x, row * G + group, mask, GROUPS, RESIDUAL)


SPACE = Space(GROUPS=(16, 8, 32), num_warps=(1, 2, 4))


def _launch(site, y, gate, up, activation, residual):
    t, f = gate.shape
    args = (operand(y)[0], gate, up, gate.stride(0), up.stride(0), f // 32)
    return site.launch(_gated_q8, (t, cdiv(f // 32, site["GROUPS"])), *args, ACTIVATION=activation, RESIDUAL=residual)


@swiglu_q8.kernel(space=SPACE)
def swiglu_q8_groups(site, y, gate, up, *, residual):
    """A program a run of groups of a row."""
    return _launch(site, y, gate, up, silu, residual)


@geglu_q8.kernel(space=SPACE)
def geglu_q8_groups(site, y, gate, up, *, residual):
    """A program a run of groups of a row."""
    return _launch(site, y, gate, up, gelu, residual)
