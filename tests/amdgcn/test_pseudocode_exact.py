"""Floating point in the emulator's pseudocode, against exact arithmetic: fma, division, conversions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("tinygrad", reason="the emulator's tables come from tinygrad")

from forge.amdgcn.numbers.arithmetic import fma
from forge.amdgcn.numbers.conversions import from_f8, to_bf16, to_f8, to_f16_towards_zero
from forge.amdgcn.pseudocode import meaning

pytestmark = pytest.mark.cpu


def run(family: str, name: str, *values: Any) -> list[np.ndarray]:
    found = meaning(family, name)
    assert found is not None
    with np.errstate(all="ignore"):
        return list(found.run(*values))


FORMATS = {np.float16: (11, -24, 16), np.float32: (24, -149, 128), np.float64: (53, -1074, 1024)}


def nearest(value: Fraction, kind: Any) -> float:
    """`value` rounded to nearest even in a format, by integers alone."""
    digits, least, top = FORMATS[kind]
    size = abs(value)
    if size == 0:
        return 0.0
    power = size.numerator.bit_length() - size.denominator.bit_length()
    power += 1 if size >= Fraction(2) ** power else 0  # 2^(power - 1) <= size < 2^power
    ulp = Fraction(2) ** max(power - digits, least)
    result = round(size / ulp) * ulp
    if result >= Fraction(2) ** top:
        return float("inf") if value > 0 else float("-inf")
    return float(result) if value > 0 else -float(result)


def numbers(kind: Any, count: int, rng: np.random.Generator) -> np.ndarray:
    """Finite values of every exponent, denormals included, and simple ones that make ties."""
    bits = rng.integers(0, 2 ** (8 * np.dtype(kind).itemsize), 2 * count, dtype=np.uint64)
    values = bits.astype(f"uint{8 * np.dtype(kind).itemsize}").view(kind)
    simple = (rng.integers(-9, 9, 2 * count) * 2.0 ** rng.integers(-14, 3, 2 * count)).astype(kind)
    values = np.where(rng.random(2 * count) < 0.3, simple, values)
    return values[np.isfinite(values)][:count]


@pytest.mark.parametrize("kind", FORMATS)
def test_fma_is_rounded_once(kind: Any) -> None:
    rng = np.random.default_rng(1)
    a, b, c = (numbers(kind, 600, rng)[:500] for _ in range(3))
    with np.errstate(all="ignore"):
        product = (a.astype(np.float64) * b.astype(np.float64)).astype(kind)
        near = np.where(np.isfinite(product), -product, c)  # cancels: what is left is the product's rounding error
        digits = FORMATS[kind][0]
        tie = np.where(np.isfinite(product), np.ldexp(product, rng.choice([-digits, digits, -digits - 1], 500)), c)
        tie = np.where(np.isfinite(tie), tie, c).astype(kind)
        for third in (c, near, tie):
            got = fma(a, b, third)
            want = [
                nearest(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)), kind)
                for x, y, z in zip(a, b, third, strict=True)
            ]
            assert np.array_equal(got.astype(np.float64), np.array(want))


def test_fma_of_nonfinite() -> None:
    inf, nan = np.inf, np.nan
    for kind in FORMATS:
        top = np.finfo(kind).max
        a, b = np.array([inf, 0, top, inf, top], kind), np.array([1, inf, top, 0, -top], kind)
        c = np.array([-inf, 1, -inf, 1, inf], kind)
        with np.errstate(all="ignore"):
            assert np.array_equal(fma(a, b, c), np.array([nan, nan, -inf, nan, inf], kind), equal_nan=True)


def quotient(kind: Any, n: np.ndarray, d: np.ndarray, family: str) -> np.ndarray:
    """LLVM's expansion of a division (AMDGPULegalizerInfo: legalizeFDIV32, legalizeFDIV64)."""
    bits = 8 * np.dtype(kind).itemsize
    one = np.ones((1, 1), kind)

    def as_float(x: np.ndarray) -> np.ndarray:
        return x.view(kind)

    def f(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        raw = [x.view(f"uint{bits}") for x in np.broadcast_arrays(a, b, c)]
        return as_float(run(family, f"v_fma_f{bits}", *(np.ascontiguousarray(x) for x in raw))[0])

    n_raw, d_raw = n.view(f"uint{bits}"), d.view(f"uint{bits}")
    divisor = as_float(run(family, f"v_div_scale_f{bits}", d_raw, d_raw, n_raw)[0])
    scaled, flag = run(family, f"v_div_scale_f{bits}", n_raw, d_raw, n_raw)
    numerator = as_float(scaled)
    y = as_float(run(family, f"v_rcp_f{bits}", divisor.view(f"uint{bits}"))[0])
    y = f(f(-divisor, y, one), y, y)
    if bits == 64:
        y = f(y, f(-divisor, y, one), y)
        q = numerator * y
    else:
        q = numerator * y
        q = f(f(-divisor, q, numerator), y, q)
    rest = f(-divisor, q, numerator)
    lanes = np.arange(32, dtype=np.uint32)[None]
    vcc = (flag.astype(np.uint64) << lanes).sum(1, keepdims=True, dtype=np.uint64)
    raw = [x.view(f"uint{bits}") for x in (rest, y, q)]
    q = run(family, f"v_div_fmas_f{bits}", *raw, vcc, lanes)[0]
    return as_float(run(family, f"v_div_fixup_f{bits}", q, d_raw, n_raw)[0])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_division_is_correctly_rounded(kind: Any) -> None:
    """Over all exponents, denormal quotients, zeros, infinities and NaN."""
    rng = np.random.default_rng(2)
    count = 32 * (400 if kind is np.float32 else 40)
    n, d = (numbers(kind, count, rng)[:count] for _ in range(2))
    count = min(len(n), len(d)) // 64 * 64
    n, d = n[:count].copy(), d[:count].copy()
    with np.errstate(all="ignore"):
        small = np.finfo(kind).tiny * rng.choice([0.25, 0.5, 1, 2], count // 2)
        n[: count // 2] = (d[: count // 2] * small.astype(kind)).astype(kind)  # quotients around the denormals
        info = np.finfo(kind)
        edges = [0.0, -0.0, 1.0, -3.0, np.inf, -np.inf, np.nan, info.max, info.max / 3]
        edges += [info.tiny, info.smallest_subnormal]
        grid = np.array([(x, y) for x in edges for y in edges], kind)
        pad = -len(grid) % 32
        n = np.concatenate([n, grid[:, 0], np.ones(pad, kind)]).reshape(-1, 32)
        d = np.concatenate([d, grid[:, 1], np.ones(pad, kind)]).reshape(-1, 32)
        want, got = n / d, quotient(kind, n, d, "rdna3")
    assert np.array_equal(got, want, equal_nan=True)
    kept = ~np.isnan(want)
    assert np.array_equal(np.signbit(got)[kept], np.signbit(want)[kept])


def test_float_to_integer_truncates_and_saturates() -> None:
    rng = np.random.default_rng(3)
    edges = [0.0, -0.5, 0.9999, 2**31, 2**31 - 128, -(2**31), 2**32, -1.0, np.inf, -np.inf, np.nan, 2**31 + 1024.0]
    x = np.concatenate([np.array(edges, np.float32), numbers(np.float32, 500, rng)])
    for name, low, high in (("v_cvt_i32_f32", -(2**31), 2**31 - 1), ("v_cvt_u32_f32", 0, 2**32 - 1)):
        (got,) = run("cdna", name, x.view(np.uint32)[None])
        want = [0 if v != v else int(max(min(float(v), 2.0**40), -(2.0**40))) for v in x]
        assert [int(v) for v in got[0]] == [max(min(v, high), low) % 2**32 for v in want]


def test_float_narrowing_rounds_to_nearest_even() -> None:
    rng = np.random.default_rng(4)
    near = numbers(np.float16, 400, rng).astype(np.float32) * np.float32(1.00048828125)
    x = np.concatenate([numbers(np.float32, 400, rng), near])
    (got,) = run("rdna3", "v_cvt_f16_f32", x.view(np.uint32)[None])
    want = np.array([nearest(Fraction(float(v)), np.float16) for v in x])
    assert np.array_equal(got[0].astype(np.uint16).view(np.float16).astype(np.float64), want)
    wide = np.concatenate([numbers(np.float64, 400, rng), x.astype(np.float64) * (1 + 2.0**-24)])
    (got,) = run("rdna3", "v_cvt_f32_f64", wide.view(np.uint64)[None])
    assert np.array_equal(got[0].view(np.float32), [nearest(Fraction(float(v)), np.float32) for v in wide])
    ties = (x.view(np.uint32) & np.uint32(0xFFFF0000) | np.uint32(0x8000)).view(np.float32)
    x = np.concatenate([x, ties])
    torch_bf16 = torch.from_numpy(x.copy()).to(torch.bfloat16).to(torch.float32).numpy()
    assert np.array_equal(to_bf16(x), torch_bf16)


def test_rounding_towards_zero_takes_the_last_number_before() -> None:
    rng = np.random.default_rng(9)
    x = np.concatenate([numbers(np.float32, 600, rng), numbers(np.float16, 200, rng).astype(np.float32)])
    with np.errstate(all="ignore"):
        cut = to_f16_towards_zero(x)
        further = np.nextafter(cut, np.copysign(np.float16(np.inf), x.astype(np.float16)))
        assert np.all(np.abs(cut.astype(np.float64)) <= np.abs(x))
        assert np.all(np.abs(further.astype(np.float64)) > np.abs(x))


@pytest.mark.parametrize(
    ("kind", "ocp", "oracle"),
    [
        ("fp8", True, torch.float8_e4m3fn),
        ("bf8", True, torch.float8_e5m2),
        ("fp8", False, torch.float8_e4m3fnuz),
        ("bf8", False, torch.float8_e5m2fnuz),
    ],
)
def test_eight_bit_floats_are_torchs(kind: str, ocp: bool, oracle: torch.dtype) -> None:
    codes = np.arange(256, dtype=np.uint32)
    values = torch.from_numpy(codes.astype(np.uint8)).view(oracle).to(torch.float32).numpy()
    assert np.array_equal(from_f8(codes, kind, ocp), values, equal_nan=True)
    finite = np.sort(values[np.isfinite(values)])
    middles = (finite[1:] + finite[:-1]) / 2
    rng = np.random.default_rng(5)
    more = [finite, middles, np.nextafter(middles, np.float32(9e9)), np.nextafter(middles, np.float32(-9e9))]
    x = np.concatenate([*more, rng.normal(0, 20, 500)]).astype(np.float32)
    x = x[np.abs(x) <= finite[-1]]
    want = torch.from_numpy(x).to(oracle).view(torch.uint8).numpy()
    assert np.array_equal(to_f8(x, kind, ocp, False), want)


def test_eight_bit_floats_overflow_by_the_mode() -> None:
    """Half a unit beyond the largest number: to even. Further: NaN, or infinity where the format has one; or stay."""
    beyond = {("fp8", True): 127, ("bf8", True): 0x7C, ("fp8", False): 128, ("bf8", False): 128}
    for (kind, ocp), code in beyond.items():
        positive = from_f8(np.arange(128, dtype=np.uint32), kind, ocp)
        top = positive[np.isfinite(positive)]
        half = (top[-1] - top[-2]) / 2
        x = np.array([top[-1] + half, np.nextafter(top[-1] + half, np.float32(np.inf)), 1e30], np.float32)
        tie = len(top) - 1 if len(top) % 2 else code  # the largest code is even, or not
        assert to_f8(x, kind, ocp, False).tolist() == [tie, code, code]
        assert to_f8(x, kind, ocp, True).tolist() == [len(top) - 1] * 3
