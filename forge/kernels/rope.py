"""RoPE: rotary position embedding, with linear and YaRN scaling and Llama 3's frequency factors."""

from __future__ import annotations

import math
from functools import lru_cache

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.language import cdiv, jit, next_power_of_2, tl


def _types(x, positions, factors, *, pairs, dims, base, scaling, factor, original_context, **rest):
    expect(x.rank == 3 and x.dtype.floating, "x must be floating point [T,H,E]")
    expect(positions.dtype.name == "i32" and positions.shape == x.shape[:1], "positions must be i32[T]")
    expect(pairs in ("norm", "neox"), f"pairs={pairs!r} is unknown", "norm (neighbours) or neox (halves)")
    expect(0 < dims <= x.shape[2] and dims % 2 == 0, f"dims={dims} must be even and at most the head width")
    fits = factors is None or (factors.dtype.name == "f32" and factors.shape == (dims // 2,))
    expect(fits, f"factors must be f32[{dims // 2}]: one a pair")
    expect(base > 1 and factor > 0, f"base={base} must be above 1 and factor={factor} above 0")
    expect(scaling in ("none", "linear", "yarn"), f"scaling={scaling!r} is unknown", "none, linear or yarn")
    expect(scaling != "yarn" or original_context > 0, "yarn needs original_context")
    return x


def frequencies(*, dims, base, scaling, factor, original_context, ext_factor, beta_fast, beta_slow):
    """Turns (of 2 pi) a position for each pair, without `factors`, as Python floats.

    The i-th of the dims/2 pairs turns by base^(-2i/dims) radians a position. Linear scaling divides that by `factor`.
    YaRN does so for pairs that make few turns within the original context, leaves those that make many, and ramps
    between: from the pair that makes beta_fast turns to the one that makes beta_slow.
    """
    plain = [base ** (-2 * i / dims) / (2 * math.pi) for i in range(dims // 2)]
    if scaling == "none":
        return plain
    if scaling == "linear":
        return [f / factor for f in plain]

    def pair_with(turns):
        return dims * math.log(original_context / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(0, math.floor(pair_with(beta_fast))), min(dims - 1, math.ceil(pair_with(beta_slow)))
    kept = [ext_factor * (1 - min(1.0, max(0.0, (i - low) / max(0.001, high - low)))) for i in range(dims // 2)]
    return [f / factor * (1 - k) + f * k for f, k in zip(plain, kept, strict=True)]


def magnitude(*, scaling, factor, ext_factor, attn_factor):
    """What rotated pairs are multiplied by; YaRN makes attention sharper as the context is stretched further."""
    return attn_factor * (1 + 0.1 * math.log(factor) if scaling == "yarn" and ext_factor else 1)


def _tables(*, attn_factor, **attrs):
    """(frequencies, magnitude) by all attributes but `pairs`."""
    scaled = {n: attrs[n] for n in ("scaling", "factor", "ext_factor")}
    return frequencies(**attrs), magnitude(attn_factor=attn_factor, **scaled)


def _angles(positions, factors, turns):
    """Radians in [0, 2 pi), f64[T, dims/2]."""
    import torch

    turns = torch.tensor(turns, dtype=torch.float64)
    return (positions[:, None] * (turns if factors is None else turns / factors)).remainder(1) * (2 * math.pi)


def _reference(x, positions, factors=None, *, pairs, dims, **attrs):
    import torch

    turns, scale = _tables(dims=dims, **attrs)
    angles = _angles(positions, factors, turns)[:, None, :]
    cos, sin = (angles.cos() * scale).float(), (angles.sin() * scale).float()
    y = x.float().clone()
    rotated = y[..., :dims]
    first, second = (rotated[..., 0::2], rotated[..., 1::2]) if pairs == "norm" else rotated.chunk(2, -1)
    a, b = first.clone(), second.clone()
    torch.sub(a * cos, b * sin, out=first)
    torch.add(a * sin, b * cos, out=second)
    return y


def _cost(x, positions, factors, **attrs):
    return Cost(bytes=2 * x.nbytes + positions.nbytes, flops=3 * x.numel)


def _cases():
    def case(name, dt, t, heads, width, pairs="norm", dims=0, factors=False, base=10000.0, fill=None, **attrs):
        types = (tensor(dt, t, heads, width), tensor("i32", t), None)
        if factors:
            types = (*types[:2], tensor("f32", (dims or width) // 2))
        attrs = {"scaling": "none", "factor": 1.0, "original_context": 0, "ext_factor": 1.0} | attrs
        attrs = {"attn_factor": 1.0, "beta_fast": 32.0, "beta_slow": 1.0} | attrs
        fill = {"positions": fills.integers(0, 4096), "factors": _between_1_and_9} | (fill or {})
        return Case(name, types, dict(pairs=pairs, dims=dims or width, base=base) | attrs, fills=fill)

    yarn = {"scaling": "yarn", "factor": 4.0, "original_context": 2048}
    for pairs in ("norm", "neox"):
        yield case(f"{pairs} f16", "f16", 5, 8, 128, pairs)
        yield case(f"{pairs} bf16", "bf16", 3, 3, 64, pairs)
        yield case(f"{pairs} f32, one token", "f32", 1, 9, 64, pairs, base=500000.0)
        yield case(f"{pairs}, part of the head", "f32", 3, 2, 80, pairs, dims=32)
        yield case(f"{pairs}, 48 pairs", "f16", 2, 17, 96, pairs)
        yield case(f"{pairs}, yarn", "f32", 4, 2, 64, pairs, **yarn)
    yield case("linear", "f32", 4, 2, 64, scaling="linear", factor=8.0)
    yield case("linear is not yarn", "f32", 4, 2, 64, scaling="linear", factor=8.0, attn_factor=1.5)
    yield case("yarn, other ramp", "f32", 4, 2, 128, "neox", **yarn, ext_factor=0.5, beta_fast=16.0, beta_slow=2.0)
    yield case("yarn, attention factor", "f32", 4, 2, 64, **yarn, attn_factor=0.7)
    yield case("frequency factors", "f32", 4, 2, 64, factors=True, base=500000.0)
    yield case("frequency factors and yarn", "f32", 4, 2, 64, "neox", factors=True, **yarn)
    far = {"positions": fills.constant([131071, 131070, 99991, 65537, 1, 0])}
    yield case("far positions", "f32", 6, 2, 128, base=500000.0, fill=far)
    yield case("one pair", "f32", 3, 1, 2)
    types = (tensor("f16", 4, 6, 64), tensor("i32", 4), None)
    yield Case("heads apart", types, case("", "f16", 4, 6, 64).attrs, make=_heads_apart)


def _between_1_and_9(generator, type):
    import torch

    return 1 + 8 * torch.rand(type.concrete(), generator=generator)


def _heads_apart(generator):
    """q of a row that holds q, k and v side by side: tokens lie apart, heads do not."""
    import torch

    wide = torch.randn(4, 1000, generator=generator).half()
    return [wide[:, 128:512].unflatten(1, (6, 64)), torch.tensor([0, 5, 2047, 9], dtype=torch.int32), None]


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()))
def rope(
    x,
    positions,
    factors=None,
    *,
    pairs,
    dims,
    base,
    scaling="none",
    factor=1.0,
    original_context=0,
    ext_factor=1.0,
    attn_factor=1.0,
    beta_fast=32.0,
    beta_slow=1.0,
):
    """y[T,H,E] = x[T,H,E] with pair i of each head turned by positions[T] * base^(-2i/dims) radians.

    Pairs are elements (2i, 2i+1) for "norm" and (i, i + dims/2) for "neox"; elements from `dims` on are copied.
    `factors` divide the frequencies (`rope_freqs.weight` of Llama 3). `scaling` "linear" and "yarn" stretch the
    context by `factor`; see `frequencies` and `magnitude`. `attn_factor` multiplies the result under any scaling.

    Angles are products in fp64, reduced to one turn before anything is rounded to fp32, so that they are right to
    3e-7 radians at every i32 position. (llama.cpp multiplies its way from pair to pair in fp32: within 1e-4 radians
    of this up to position 1000, but only 1e-2 at 131072.) The rotation is computed in fp32 and gives the type of x.
    Tokens may lie apart, and heads; elements of a head may not.
    Source: arXiv 2104.09864 (RoPE), 2309.00071 (YaRN); the attributes are those of ggml's `ggml_rope_ext`.
    """


@jit
def sine_and_cosine(turns):
    """(sin, cos) of fp64 turns, as fp32: reduced to an eighth of a turn, then Taylor's series; no math library.

    The first terms left out are below 3e-8 at an eighth of a turn.
    """
    quarter = tl.floor(turns * 4 + 0.5)
    a = ((turns - quarter * 0.25) * 6.283185307179586).to(tl.float32)
    quarter = (quarter - tl.floor(quarter * 0.25) * 4).to(tl.int32)  # 0 to 3
    z = a * a
    s = a * (1 + z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880)))))
    c = 1 + z * (-0.5 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320))))
    swapped = quarter % 2 == 1
    sin, cos = tl.where(swapped, c, s), tl.where(swapped, s, c)
    return tl.where(quarter >= 2, -sin, sin), tl.where((quarter == 1) | (quarter == 2), -cos, cos)


@jit
def _rope(
    y_ptr,  # [T,H,E], dense
    x_ptr,  # [T,H,E]
    positions_ptr,  # [T]
    factors_ptr,  # f32[DIMS/2] or None
    turns_ptr,  # f64[DIMS/2]
    x_stride_t,
    x_stride_h,
    scale,
    H: tl.constexpr,
    E: tl.constexpr,
    DIMS: tl.constexpr,
    NEOX: tl.constexpr,
    HEADS: tl.constexpr,
    PAIRS: tl.constexpr,
    REST: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    x_head_ptr = x_ptr + token * x_stride_t + head * x_stride_h
    y_head_ptr = y_ptr + (token * H + head) * E

    pair = tl.arange(0, PAIRS)
    turns = tl.load(turns_ptr + pair, pair < DIMS // 2, other=0.0)
    if factors_ptr is not None:
        turns = turns / tl.load(factors_ptr + pair, pair < DIMS // 2, other=1.0).to(tl.float64)
    sin, cos = sine_and_cosine(tl.load(positions_ptr + token).to(tl.float64) * turns)
    sin, cos = (sin * scale)[None, :], (cos * scale)[None, :]

    first = (pair if NEOX else 2 * pair)[None, :]
    apart: tl.constexpr = DIMS // 2 if NEOX else 1
    mask = (head < H) & (pair < DIMS // 2)[None, :]
    a = tl.load(x_head_ptr + first, mask).to(tl.float32)
    b = tl.load(x_head_ptr + first + apart, mask).to(tl.float32)
    tl.store(y_head_ptr + first, (a * cos - b * sin).to(y_ptr.dtype.element_ty), mask)
    tl.store(y_head_ptr + first + apart, (a * sin + b * cos).to(y_ptr.dtype.element_ty), mask)
    if REST > 0:
        rest = DIMS + tl.arange(0, REST)[None, :]
        mask = (head < H) & (rest < E)
        tl.store(y_head_ptr + rest, tl.load(x_head_ptr + rest, mask), mask)


@lru_cache(maxsize=64)
def _turns_on(device, turns):
    """Frequencies as f64 on a device, shared by the layers of a model."""
    import torch

    return torch.tensor(turns, dtype=torch.float64, device=device)


@rope.kernel(space=Space(HEADS=(8, 4, 16, 2), num_warps=(4, 2, 8)))
def rope_heads(site, y, x, positions, factors, *, pairs, dims, **attrs):
    """A program a token and a few of its heads, whose angles are the same."""
    t, heads, width = x.shape
    turns, scale = _tables(dims=dims, **attrs)
    grid = (t, cdiv(heads, site["HEADS"]))
    args = (y, x, positions, factors, _turns_on(x.device, tuple(turns)), x.stride(0), x.stride(1), scale)
    sizes = dict(PAIRS=next_power_of_2(dims // 2), REST=next_power_of_2(width - dims) if width > dims else 0)
    return site.launch(_rope, grid, *args, H=heads, E=width, DIMS=dims, NEOX=pairs == "neox", **sizes)


@lru_cache(maxsize=8)
def _rotation(positions, factors, turns, scale):
    """(cos, sin), each f32[T,1,dims/2], for the bytes of positions and factors: worked out once for all layers."""
    import torch

    positions = torch.frombuffer(bytearray(positions), dtype=torch.int32)
    factors = torch.frombuffer(bytearray(factors), dtype=torch.float32) if factors else None
    angles = _angles(positions, factors, turns).float()[:, None, :]
    return angles.cos() * scale, angles.sin() * scale


@lru_cache(maxsize=8)
def _complex_rotation(positions, factors, turns, scale):
    """cos + i sin."""
    import torch

    return torch.complex(*_rotation(positions, factors, turns, scale))


@rope.kernel(on="cpu", workspace=lambda call, config: _scratch(call))
def rope_torch(site, y, x, positions, factors, *, pairs, dims, **attrs):
    """Neighbours as one complex product, halves as three real ones, in fp32."""
    import torch

    x_f32, y_f32 = site.work
    turns, scale = _tables(dims=dims, **attrs)
    turns, half = tuple(turns), dims // 2
    place, factor_bytes = positions.numpy(), (lambda: b"") if factors is None else factors.numpy().tobytes
    x, y, x_rest, y_rest = x[..., :dims], y[..., :dims], x[..., dims:], y[..., dims:]
    x_complex, y_complex = (torch.view_as_complex(v.unflatten(-1, (half, 2))) for v in (x_f32, y_f32))
    x_first, x_second = x_f32.chunk(2, -1)
    y_first, y_second = y_f32.chunk(2, -1)

    def neighbours():
        x_f32.copy_(x)
        torch.mul(x_complex, _complex_rotation(place.tobytes(), factor_bytes(), turns, scale), out=y_complex)
        y.copy_(y_f32)

    def halves():
        x_f32.copy_(x)
        cos, sin = _rotation(place.tobytes(), factor_bytes(), turns, scale)
        torch.mul(x_first, cos, out=y_first).addcmul_(x_second, sin, value=-1)
        torch.mul(x_second, cos, out=y_second).addcmul_(x_first, sin)
        y.copy_(y_f32)

    steps = [neighbours if pairs == "norm" else halves]
    return [*steps, lambda: y_rest.copy_(x_rest)] if y_rest.numel() else steps


def _scratch(call):
    """The rotated part of x before and after, in fp32."""
    t, heads, _ = call.types[0].shape
    return (tensor("f32", t, heads, call.attrs["dims"]),) * 2
