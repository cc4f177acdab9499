"""RoPE: rotary position embedding of the heads of q and k."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import Sym, tensor
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, next_power_of_2, tl


def _types(x, rotation, *, pairs):
    expect(x.rank == 3 and x.dtype.fits_f32, "x must be f32, f16 or bf16 [T,H,E]")
    expect(rotation.rank == 3 and rotation.dtype.name == "f32", "rotation must be f32[T,P,2]")
    t, count, two = rotation.shape
    expect(t == x.shape[0] and two == 2, "rotation must be f32[T,P,2] of the T tokens of x")
    expect(
        not isinstance(count, Sym) and not isinstance(x.shape[2], Sym),
        "the width of a head and its pairs must be known",
    )
    expect(0 < 2 * count <= x.shape[2], f"{count} pairs do not fit heads of {x.shape[2]}")
    expect(pairs in ("norm", "neox"), f"pairs={pairs!r} is unknown", "norm (neighbours) or neox (halves)")
    return x


def _reference(x, rotation, *, pairs):
    import torch

    cos, sin = rotation.float()[:, None].unbind(-1)
    y = x.float().clone()
    rotated = y[..., : 2 * rotation.shape[1]]
    first, second = (rotated[..., 0::2], rotated[..., 1::2]) if pairs == "norm" else rotated.chunk(2, -1)
    a, b = first.clone(), second.clone()
    torch.sub(a * cos, b * sin, out=first)
    torch.add(a * sin, b * cos, out=second)
    return y


def _cost(x, rotation, *, pairs):
    return Cost(bytes=2 * x.nbytes + rotation.nbytes, flops=3 * x.numel)


def _cases():
    def case(name, dt, t, heads, width, pairs="norm", count=0, **options):
        types = (tensor(dt, t, heads, width), tensor("f32", t, count or width // 2, 2))
        return Case(name, types, {"pairs": pairs}, {"rotation": unit_circle}, **options)

    for pairs in ("norm", "neox"):
        yield case(f"{pairs} f16", "f16", 5, 8, 128, pairs)
        yield case(f"{pairs} bf16", "bf16", 3, 3, 64, pairs)
        yield case(f"{pairs} f32, one token", "f32", 1, 9, 64, pairs)
        yield case(f"{pairs}, part of the head", "f32", 3, 2, 80, pairs, count=16)
        yield case(f"{pairs}, 48 pairs", "f16", 2, 17, 96, pairs)
        yield case(f"{pairs}, one pair", "f32", 3, 1, 2, pairs)
        yield case(f"{pairs}, heads apart", "f16", 4, 6, 64, pairs, make=_heads_apart)


def unit_circle(generator, type):
    """(cos a, sin a) of random angles."""
    import torch

    angles = torch.rand(type.concrete()[:-1], generator=generator) * (2 * torch.pi)
    return torch.stack((angles.cos(), angles.sin()), -1)


def _heads_apart(generator):
    """q of a row that holds q, k and v side by side: tokens lie apart, heads do not."""
    import torch

    wide = torch.randn(4, 1000, generator=generator).half()
    return [wide[:, 128:512].unflatten(1, (6, 64)), unit_circle(generator, tensor("f32", 4, 32, 2))]


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"x": "THE", "rotation": "TP2"})
def rope(x, rotation, *, pairs):
    """y[T,H,E] = x[T,H,E] with pair i of each head turned by the angle of rotation[T,i] = (cos, sin), f32[T,P,2].

    Pairs are elements (2i, 2i+1) for "norm" and (i, i + P) for "neox"; elements from 2P on are copied. The op
    `rotation` makes the rotations. In fp32, rounded once to the type of x. Tokens may lie apart, and heads; elements
    of a head may not. Source: arXiv 2104.09864; the names of the pairings are those of ggml's `ggml_rope_ext`.
    """


@jit
def pairs_of(rotation_ptr, token, COUNT: tl.constexpr, NEOX: tl.constexpr, PAIRS: tl.constexpr):
    """(first element, second element, cos, sin, whether there is one) of each pair of a head, [1,PAIRS] each."""
    pair = tl.arange(0, PAIRS)[None, :]
    mask = pair < COUNT
    first = pair if NEOX else 2 * pair
    apart: tl.constexpr = COUNT if NEOX else 1
    at = rotation_ptr + (token * COUNT + pair) * 2
    return first, first + apart, tl.load(at, mask, other=0.0), tl.load(at + 1, mask, other=0.0), mask


@jit
def turned(a, b, cos, sin):
    """The elements of pairs after they were turned."""
    return a * cos - b * sin, a * sin + b * cos


@jit
def _rope(
    y_ptr,  # [T,H,E], dense
    x_ptr,  # [T,H,E]
    rotation_ptr,  # f32[T,COUNT,2]
    x_stride_t,
    x_stride_h,
    H: tl.constexpr,
    E: tl.constexpr,
    COUNT: tl.constexpr,
    NEOX: tl.constexpr,
    HEADS: tl.constexpr,
    PAIRS: tl.constexpr,
    REST: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_earlier(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    x_head_ptr = x_ptr + token * x_stride_t + head * x_stride_h
    y_head_ptr = y_ptr + (token * H + head) * E

    first, second, cos, sin, mask = pairs_of(rotation_ptr, token, COUNT, NEOX, PAIRS)
    mask = (head < H) & mask
    a = tl.load(x_head_ptr + first, mask).to(tl.float32)
    b = tl.load(x_head_ptr + second, mask).to(tl.float32)
    a, b = turned(a, b, cos, sin)
    tl.store(y_head_ptr + first, a.to(y_ptr.dtype.element_ty), mask)
    tl.store(y_head_ptr + second, b.to(y_ptr.dtype.element_ty), mask)
    if REST > 0:
        rest = 2 * COUNT + tl.arange(0, REST)[None, :]
        mask = (head < H) & (rest < E)
        tl.store(y_head_ptr + rest, tl.load(x_head_ptr + rest, mask), mask)


@rope.kernel(space=Space(HEADS=(8, 4, 16, 2), num_warps=(4, 2, 8)))
def rope_heads(site, y, x, rotation, *, pairs):
    """A program a token and a few of its heads, whose angles are the same."""
    site.dense("rope", rotation=rotation)
    t, heads, width = x.shape
    count = rotation.shape[1]
    rest = next_power_of_2(width - 2 * count) if width > 2 * count else 0
    args = (y, x, rotation, x.stride(0), x.stride(1))
    sizes = dict(H=heads, E=width, COUNT=count, PAIRS=next_power_of_2(count), REST=rest)
    return site.launch(_rope, (t, cdiv(heads, site["HEADS"])), *args, NEOX=pairs == "neox", **sizes)


def _turned(call, config):
    """The rotated part of x before and after, in fp32."""
    t, heads, _ = call.types[0].shape
    return (tensor("f32", t, heads, 2 * call.types[1].shape[1]),) * 2


@rope.kernel(on="cpu", workspace=_turned)
def rope_torch(site, y, x, rotation, *, pairs):
    """Neighbours as one complex product, halves as three real ones, in fp32."""
    import torch

    x_f32, y_f32 = site.work
    count = rotation.shape[1]
    x, y, x_rest, y_rest = x[..., : 2 * count], y[..., : 2 * count], x[..., 2 * count :], y[..., 2 * count :]
    x_complex, y_complex = (torch.view_as_complex(v.unflatten(-1, (count, 2))) for v in (x_f32, y_f32))
    turn = torch.view_as_complex(rotation)[:, None]
    x_first, x_second = x_f32.chunk(2, -1)
    y_first, y_second = y_f32.chunk(2, -1)
    cos, sin = rotation[:, None].unbind(-1)

    def neighbours():
        x_f32.copy_(x)
        torch.mul(x_complex, turn, out=y_complex)
        y.copy_(y_f32)

    def halves():
        x_f32.copy_(x)
        torch.mul(x_first, cos, out=y_first).addcmul_(x_second, sin, value=-1)
        torch.mul(x_second, cos, out=y_second).addcmul_(x_first, sin)
        y.copy_(y_f32)

    steps = [neighbours if pairs == "norm" else halves]
    return [*steps, lambda: y_rest.copy_(x_rest)] if y_rest.numel() else steps
