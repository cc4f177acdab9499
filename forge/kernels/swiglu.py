"""SwiGLU, the gated activation of the feed-forward layer."""

from __future__ import annotations

from forge.graph.op import Case, Cost, expect, op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.kernels.device.gated import SPACE, gated_flat, gated_torch
from forge.language import jit, tl


def _types(gate, up):
    expect(gate == up, "gate and up must have one type")
    expect(gate.rank == 2 and gate.dtype.fits_f32, "gate and up must be f32, f16 or bf16 [T,F]")
    return gate


def _reference(gate, up):
    import torch

    gate = gate.float()
    return gate * torch.sigmoid(gate) * up.float()


def _cost(gate, up):
    return Cost(bytes=3 * gate.nbytes, flops=5 * gate.numel)


def _cases():
    for dt in ("f16", "bf16", "f32"):
        yield Case(dt, (tensor(dt, 3, 1280),) * 2)
    for t, f in ((1, 1), (7, 1031), (2, 1025), (5, 32)):
        yield Case(f"f16 {t}x{f}", (tensor("f16", t, f),) * 2)
    yield Case("rows apart", (tensor("f16", 5, 640),) * 2, strided=True)
    # silu must go to gate or to 0, never to NaN
    yield Case("huge", (tensor("f16", 4, 512),) * 2, fills={"gate": fills.scaled(60)})
    yield Case("tiny", (tensor("f32", 4, 512),) * 2, fills={"gate": fills.scaled(1e-20)})


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"gate": "TF", "up": "TF"})
def swiglu(gate, up):
    """y[T,F] = gate * sigmoid(gate) * up; the sigmoid in fp32.

    Takes f16, bf16 or f32; rows may lie apart, elements of a row may not. Source: arXiv 2002.05202.
    """


@jit
def silu(x):
    """x / (1 + e^-x)"""
    return x * tl.sigmoid(x)


@swiglu.kernel(space=SPACE)
def swiglu_flat(site, y, gate, up):
    """A program a block of a row."""
    return gated_flat(site, y, gate, up, silu)


@swiglu.kernel(on="cpu")
def swiglu_torch(site, y, gate, up):
    """torch's silu computes in fp32."""
    import torch

    return gated_torch(y, gate, up, torch.ops.aten.silu.out)
