"""GeGLU, the gated activation of Gemma's feed-forward layers."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.language import cdiv, jit, tl


def _types(gate, up):
    expect(gate == up, "gate and up must have one type")
    expect(gate.rank == 2 and gate.dtype.floating, "gate and up must be floating point [T,F]")
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
def _geglu(y_ptr, gate_ptr, up_ptr, y_stride, gate_stride, up_stride, F, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < F
    gate = tl.load(gate_ptr + row * gate_stride + column, mask).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + column, mask).to(tl.float32)
    # (1 + tanh(z)) / 2 = sigmoid(2 z), and 2 sqrt(2 / pi) = 1.595769...
    y = gate * tl.sigmoid(1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)) * up
    tl.store(y_ptr + row * y_stride + column, y.to(y_ptr.dtype.element_ty), mask)


@geglu.kernel(space=Space(BLOCK=(1024, 512, 2048), num_warps=(4, 2, 8)))
def geglu_flat(site, y, gate, up):
    """A program a block of a row."""
    t, f = gate.shape
    grid = (t, cdiv(f, site["BLOCK"]))
    return site.launch(_geglu, grid, y, gate, up, y.stride(0), gate.stride(0), up.stride(0), f)


@geglu.kernel(on="cpu")
def geglu_torch(site, y, gate, up):
    """Two passes within y: torch's gelu computes in fp32 and rounds to the operands' type, and so does the product."""
    import torch

    gelu = torch.ops.aten.gelu.out

    def step():
        gelu(gate, approximate="tanh", out=y)
        y.mul_(up)

    return step
