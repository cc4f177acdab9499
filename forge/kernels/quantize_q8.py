"""Activations as int8 in groups of 32: what the integer kernels multiply quantized weights by."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import DTYPES, TensorType, tensor
from forge.kernels import fills
from forge.language import cdiv, jit, tl


def _types(x):
    expect(x.rank == 2 and x.dtype.floating, "x must be floating point [T,D]")
    width = x.shape[-1]
    expect(isinstance(width, int) and width % 32 == 0, "the width of x must be a multiple of 32")
    return TensorType(x.shape, DTYPES["a8"])


def _reference(x):
    import torch

    groups = x.float().unflatten(-1, (-1, 32))
    d = groups.abs().amax(-1, keepdim=True) / 127
    codes = torch.where(d == 0, 0.0, groups / d).round().clamp(-127, 127)
    return (d * codes).flatten(-2)


def _cost(x):
    return Cost(bytes=x.nbytes + TensorType(x.shape, DTYPES["a8"]).nbytes, flops=4 * x.numel)


def _cases():
    for dt in ("f16", "bf16", "f32"):
        yield Case(dt, (tensor(dt, 3, 288),))
    yield Case("one group", (tensor("f16", 1, 32),))
    yield Case("a block and one group", (tensor("f16", 2, 1056),))
    yield Case("rows apart", (tensor("f16", 5, 96),), strided=True)
    yield Case("zero row", (tensor("f16", 3, 96),), fills={"x": fills.zero_row})
    yield Case("huge", (tensor("f32", 3, 96),), fills={"x": fills.scaled(1e30)})
    yield Case("tiny", (tensor("f32", 3, 96),), fills={"x": fills.scaled(1e-30)})


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()))
def quantize_q8(x):
    """y[T,D] = d * round(x / d) with d = max|x| / 127 over each group of 32, ties to even; a group of zeros has d = 0.

    The result is `a8`: int8 codes four a word, d in f32, and s = d * (sum of the group's codes) in f32, which is what
    a weight's minimum multiplies. A group with a NaN or an infinity is NaN as a whole.
    """


@jit
def _quantize_q8(q_ptr, h_ptr, s_ptr, d_ptr, x_ptr, x_stride, G, GROUPS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    element = group[:, None] * 32 + tl.arange(0, 32)[None, :]
    x = tl.load(x_ptr + row * x_stride + element, (group < G)[:, None], 0.0).to(tl.float32)
    # The maximum skips NaN; the sum of x * 0 brings NaN and infinity back into the scale.
    d = tl.div_rn(tl.max(tl.abs(x), 1), tl.full([GROUPS], 127.0, tl.float32)) + tl.sum(x * 0.0, 1)
    divisor = tl.where(d == 0.0, 1.0, d)
    scaled = tl.div_rn(x, tl.broadcast_to(divisor[:, None], [GROUPS, 32]))
    # Adding 1.5 * 2^23 leaves no bits for a fraction: rounds to nearest, ties to even.
    rounded = tl.clamp((scaled + 12582912.0) - 12582912.0, -127.0, 127.0)
    codes = rounded.to(tl.int32)
    bytes = tl.reshape(codes & 255, [GROUPS, 8, 4]) << (8 * tl.arange(0, 4))[None, None, :]
    word = group[:, None] * 8 + tl.arange(0, 8)[None, :]
    tl.store(q_ptr + row * G * 8 + word, tl.sum(bytes, 2), (group < G)[:, None])
    tl.store(d_ptr + row * G + group, d, group < G)
    tl.store(s_ptr + row * G + group, d * tl.sum(codes, 1).to(tl.float32), group < G)


@quantize_q8.kernel(space=Space(GROUPS=(32, 16, 64), num_warps=(4, 2, 8)))
def quantize_q8_groups(site, y, x):
    """A program a run of groups of a row."""
    t, width = x.shape
    groups = width // 32
    return site.launch(_quantize_q8, (t, cdiv(groups, site["GROUPS"])), y, x, x.stride(0), groups)


@quantize_q8.kernel(on="cpu")
def quantize_q8_torch(site, y, x):
    """For eager calls; plans for the CPU keep activations in bf16 or f32."""
    import torch

    def step():
        groups = x.float().unflatten(-1, (-1, 32))
        d = groups.abs().amax(-1, keepdim=True) / 127
        codes = torch.where(d == 0, 0.0, groups / d).round().clamp(-127, 127)
        y.planes["q"].copy_(codes.to(torch.int8).flatten(-2).view(torch.int32))
        y.planes["d"].copy_(d[..., 0])
        y.planes["s"].copy_((d * codes.sum(-1, keepdim=True))[..., 0])

    return step
