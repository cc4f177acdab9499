"""The rotations of a step's positions, which every layer's `rope` turns its heads by."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import TensorType, dtype, tensor
from forge.kernels import fills
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, tl


def _types(positions, turns, factors, *, magnitude):
    expect(positions.rank == 1 and positions.dtype.name == "i32", "positions must be i32[T]")
    expect(turns.rank == 1 and turns.dtype.name == "f64", "turns must be f64[P]: one a pair")
    fits = factors is None or (factors.dtype.name == "f32" and factors.shape == turns.shape)
    expect(fits, f"factors must be f32[{turns.shape[0]}]: one a pair")
    expect(magnitude > 0, f"magnitude={magnitude} must be above 0")
    return TensorType((positions.shape[0], turns.shape[0], 2), dtype("f32"))


def _reference(positions, turns, factors=None, *, magnitude):
    import torch

    per_position = turns.double() if factors is None else turns.double() / factors.double()
    angles = (positions[:, None] * per_position).remainder(1) * (2 * torch.pi)
    return (torch.stack((angles.cos(), angles.sin()), -1) * magnitude).float()


def _cost(positions, turns, factors, *, magnitude):
    made = _types(positions, turns, factors, magnitude=magnitude)
    return Cost(bytes=positions.nbytes + turns.nbytes + made.nbytes, flops=20 * made.numel)


def _cases():
    def case(name, t, pairs, base=10000.0, factors=False, magnitude=1.0, positions=None):
        turns = [base ** (-i / pairs) / 6.283185307179586 for i in range(pairs)]
        types = (tensor("i32", t), tensor("f64", pairs), tensor("f32", pairs) if factors else None)
        fill = {"turns": fills.constant(turns), "factors": _between_1_and_9}
        fill["positions"] = fills.constant(positions) if positions else fills.integers(0, 4096)
        return Case(name, types, {"magnitude": magnitude}, fills=fill)

    yield case("64 pairs", 5, 64)
    yield case("one token", 1, 32, base=500000.0)
    yield case("48 pairs", 2, 48)
    yield case("one pair", 3, 1)
    yield case("magnitude", 4, 32, magnitude=1.1386)
    yield case("factors", 4, 32, base=500000.0, factors=True)
    yield case("factors and magnitude", 4, 32, factors=True, magnitude=0.7)
    yield case("far positions", 6, 64, base=500000.0, positions=[131071, 131070, 99991, 65537, 1, 0])
    yield case("farthest positions", 2, 33, positions=[2**31 - 1, 2**31 - 2])


def _between_1_and_9(generator, type):
    import torch

    return 1 + 8 * torch.rand(type.concrete(), generator=generator)


@op(
    types=_types,
    reference=_reference,
    cost=_cost,
    cases=lambda: tuple(_cases()),
    axes={"positions": "T", "turns": "P", "factors": "P"},
)
def rotation(positions, turns, factors=None, *, magnitude=1.0):
    """r[T,P,2] = magnitude * (cos a, sin a) with a = 2 pi * positions[T] * turns[P] / factors[P], in f32.

    `turns` are the turns that each pair makes a position, f64; `factors` divide them (`rope_freqs.weight` of Llama 3).

    Angles are products in fp64, reduced to one turn before anything is rounded to fp32, so that they are right to
    3e-7 radians at every i32 position. (llama.cpp multiplies its way from pair to pair in fp32: within 1e-4 radians
    of this up to position 1000, but only 1e-2 at 131072.) Source: arXiv 2104.09864.
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
def _rotation(
    r_ptr,  # f32[T,P,2]
    positions_ptr,  # i32[T]
    turns_ptr,  # f64[P]
    factors_ptr,  # f32[P] or None
    P,
    magnitude,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_earlier(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    pair = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = pair < P
    turns = tl.load(turns_ptr + pair, mask, other=0.0)
    if factors_ptr is not None:
        turns = turns / tl.load(factors_ptr + pair, mask, other=1.0).to(tl.float64)
    sin, cos = sine_and_cosine(tl.load(positions_ptr + token).to(tl.float64) * turns)
    at = r_ptr + (token * P + pair) * 2
    tl.store(at, cos * magnitude, mask)
    tl.store(at + 1, sin * magnitude, mask)


@rotation.kernel(space=Space(BLOCK=(64, 32, 128), num_warps=(1, 2, 4)))
def rotation_pairs(site, r, positions, turns, factors, *, magnitude):
    """A program a token and a block of its pairs."""
    t, pairs, _ = r.shape
    return site.launch(_rotation, (t, cdiv(pairs, site["BLOCK"])), r, positions, turns, factors, pairs, magnitude)


@rotation.kernel(on="cpu")
def rotation_torch(site, r, positions, turns, factors, *, magnitude):
    """The reference, written in place."""
    return lambda: r.copy_(_reference(positions, turns, factors, magnitude=magnitude))
