"""GeGLU, the gated activation of Gemma's feed-forward layers."""

from __future__ import annotations

from functools import partial

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

    return torch.nn.functional.gelu(gate.float(), approximate="tanh") * up.float()


def _cost(gate, up):
    return Cost(bytes=3 * gate.nbytes, flops=10 * gate.numel)


def _cases():
    for dt in ("f16", "bf16", "f32"):
        yield Case(dt, (tensor(dt, 3, 1280),) * 2)
    for t, f in ((1, 1), (7, 1031), (2, 1025), (5, 32)):
        yield Case(f"f16 {t}x{f}", (tensor("f16", t, f),) * 2)
    yield Case("rows apart", (tensor("f16", 5, 640),) * 2, strided=True)
    # gelu must go to gate or to 0, never to NaN, though the cube within overflows
    yield Case("huge", (tensor("f16", 4, 512),) * 2, fills={"gate": fills.scaled(60)})
    yield Case("beyond the cube", (tensor("f32", 4, 512),) * 2, fills={"gate": fills.scaled(1e20)})
    yield Case("tiny", (tensor("f32", 4, 512),) * 2, fills={"gate": fills.scaled(1e-20)})


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"gate": "TF", "up": "TF"})
def geglu(gate, up):
    """y[T,F] = gelu(gate) * up with gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), in fp32.

    Takes f16, bf16 or f32; rows may lie apart, elements of a row may not. Source: arXiv 2002.05202; the form with tanh
    is that of arXiv 1606.08415, which Gemma and llama.cpp use.
    """


@jit
def gelu(x):
    """By (1 + tanh(z)) / 2 = sigmoid(2 z), and 2 sqrt(2 / pi) = 1.595769..."""
    return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@geglu.kernel(space=SPACE)
def geglu_flat(site, y, gate, up):
    """A program a block of a row."""
    return gated_flat(site, y, gate, up, gelu)


@geglu.kernel(on="cpu")
def geglu_torch(site, y, gate, up):
    """torch's gelu computes in fp32."""
    import torch

    return gated_torch(y, gate, up, partial(torch.ops.aten.gelu.out, approximate="tanh"))
