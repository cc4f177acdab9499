"""The division that LLVM makes of v_div_scale, v_rcp, v_fma, v_div_fmas and v_div_fixup is IEEE 754's."""

from __future__ import annotations

import numpy as np
import pytest
from amdgcn.assembled import ARCHS, LANES, execute, waves
from amdgcn.instructions.values import FLOATS, WORDS, edges

pytestmark = pytest.mark.compile

# v0 = v2 / v4 as LLVM lowers fdiv: Newton's steps on the scaled operands. {x} is the type.
STEPS = """
v_div_scale_{x} {d}, {other}, {den}, {den}, {num}
v_div_scale_{x} {n}, {vcc}, {num}, {den}, {num}
v_rcp_{x} {y}, {d}
v_fma_{x} {e}, -{d}, {y}, 1.0
v_fma_{x} {y}, {e}, {y}, {y}
{again}
v_mul_{x} {q}, {n}, {y}
v_fma_{x} {e}, -{d}, {q}, {n}
{refine}
v_div_fmas_{x} {q}, {e}, {y}, {q}
v_div_fixup_{x} {out}, {q}, {den}, {num}
"""
AGAIN = "v_fma_f64 {e}, -{d}, {y}, 1.0\nv_fma_f64 {y}, {e}, {y}, {y}"  # float64's reciprocal is a rougher seed
REFINE = "v_fma_f32 {q}, {e}, {y}, {q}\nv_fma_f32 {e}, -{d}, {q}, {n}"
NAMES = ("out", "num", "den", "d", "n", "y", "e", "q")


def program(arch: str, bits: int) -> str:
    registers = {name: f"v[{2 * i}:{2 * i + 1}]" if bits == 64 else f"v{2 * i}" for i, name in enumerate(NAMES)}
    masks = ("s[2:3]", "vcc") if arch == "gfx942" else ("null", "vcc_lo")
    steps = STEPS.replace("{again}", AGAIN if bits == 64 else "").replace("{refine}", "" if bits == 64 else REFINE)
    return steps.format(x=f"f{bits}", other=masks[0], vcc=masks[1], **registers)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("arch", ARCHS)
def test_division_is_rounded_once(arch, bits):
    """Of all pairs of edge values and of random bits, denormals, infinities and quotients at either end included."""
    rng = np.random.default_rng(9)
    table = edges(f"f{bits}")
    pairs = np.array(np.meshgrid(table, table)).reshape(2, -1)
    noise = rng.integers(0, 1 << 64, (2, 4000), dtype=np.uint64) >> np.uint64(64 - bits)
    mantissa = {32: 23, 64: 52}[bits]
    top = (1 << bits - 1 - mantissa) - 1
    # of exponents whose difference is at an end of the range
    high = rng.integers(1, top, 4000)
    low = np.clip(high + rng.choice([-1, 1], 4000) * (top // 2 + rng.integers(-30, 30, 4000)), 0, top - 1)
    keep = np.uint64((1 << mantissa) - 1)
    near = noise & keep | np.array([high, low], np.uint64) << np.uint64(mantissa)
    values = np.concatenate([pairs, noise, near], axis=1)
    lanes = LANES[arch]
    n = -(-values.shape[1] // lanes)
    numerator, denominator = _tiled(values, n, lanes)
    state = waves(arch, n)
    for register, operand in ((2, numerator), (4, denominator)):
        state.vgpr[register] = operand.astype(np.uint32)
        state.vgpr[register + 1] = (operand >> np.uint64(32)).astype(np.uint32) if bits == 64 else 0
    execute(arch, program(arch, bits), state)
    got = state.vgpr[0].astype(np.uint64)
    if bits == 64:
        got |= state.vgpr[1].astype(np.uint64) << np.uint64(32)
    with np.errstate(all="ignore"):
        x, y = (v.astype(WORDS[bits]).view(FLOATS[bits]) for v in (numerator, denominator))
        want = x / y
    result = got.astype(WORDS[bits]).view(FLOATS[bits])
    same = (result.view(WORDS[bits]) == want.view(WORDS[bits])) | (np.isnan(result) & np.isnan(want))
    wrong = zip(*(v[~same].tolist() for v in (x, y, result, want)), strict=True)
    bad = [f"{a!r} / {b!r} gave {r!r}, not {w!r}" for a, b, r, w in wrong]
    assert not bad, f"{len(bad)} of {same.size}: " + "; ".join(bad[:5])


def _tiled(values: np.ndarray, n: int, lanes: int) -> np.ndarray:
    """[2, n, lanes] of pairs [2, k], the last repeated."""
    missing = n * lanes - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing)), mode="edge").reshape(2, n, lanes)
