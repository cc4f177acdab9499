"""Gated activations, y[T,F] = activation(gate[T,F]) * up[T,F] in fp32: what their ops' kernels share."""

from __future__ import annotations

from forge.graph.op import Space
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, tl

SPACE = Space(BLOCK=(1024, 512, 2048), num_warps=(4, 2, 8))


@jit
def _gated(
    y_ptr, gate_ptr, up_ptr, y_stride, gate_stride, up_stride, F, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):  # fmt: skip
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < F
    gate = tl.load(gate_ptr + row * gate_stride + column, mask).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + column, mask).to(tl.float32)
    y = ACTIVATION(gate) * up
    tl.store(y_ptr + row * y_stride + column, y.to(y_ptr.dtype.element_ty), mask)


def gated_flat(site, y, gate, up, activation):
    """A program a block of a row; `activation` is a device function of an fp32 tensor."""
    t, f = gate.shape
    grid = (t, cdiv(f, site["BLOCK"]))
    args = (y, gate, up, y.stride(0), gate.stride(0), up.stride(0), f)
    return site.launch(_gated, grid, *args, ACTIVATION=activation)


def gated_torch(y, gate, up, activation):
    """Two passes within y: `activation(gate, out=y)` rounds to the operands' type, and so does the product."""

    def step():
        activation(gate, out=y)
        y.mul_(up)

    return step
