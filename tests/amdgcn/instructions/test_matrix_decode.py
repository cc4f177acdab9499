"""One product through each matrix instruction that our kernels use, assembled: its registers are decoded as it means.

The layouts are those of AMD's matrix instruction calculator. test_matrix.py looks at every type and element.
"""

from __future__ import annotations

import numpy as np
import pytest
from amdgcn.assembled import LANES, execute, waves

pytestmark = pytest.mark.compile

ELEMENT = {"f16": (16, lambda x: x.astype(np.float16).view(np.uint16)), "bf16": (16, lambda x: x.view(np.uint32) >> 16),
           "f32": (32, lambda x: x.view(np.uint32))}  # fmt: skip

# mnemonic: (rows and columns, depth, type); dwords of A, B and D a lane
MFMA = {
    "v_mfma_f32_16x16x16_f16": (16, 16, "f16", 2, 4),
    "v_mfma_f32_16x16x16_bf16": (16, 16, "bf16", 2, 4),
    "v_mfma_f32_16x16x4_f32": (16, 4, "f32", 1, 4),
    "v_mfma_f32_32x32x8_f16": (32, 8, "f16", 2, 16),
    "v_mfma_f32_32x32x8_bf16": (32, 8, "bf16", 2, 16),
    "v_mfma_f32_32x32x2_f32": (32, 2, "f32", 1, 16),
}
WMMA = {"gfx1100": 8, "gfx1201": 4}  # dwords of A and B a lane


def cases():
    for name, shape in MFMA.items():
        yield pytest.param("gfx942", name, *shape, id=f"gfx942-{name}")
    for arch, words in WMMA.items():
        for type in ("f16", "bf16"):
            name = f"v_wmma_f32_16x16x16_{type}"
            yield pytest.param(arch, name, 16, 16, type, words, 8, id=f"{arch}-{name}")


def input_place(arch: str, size: int, depth: int, type: str):
    """(lane, element) of A[i, k], and of B[k, i]. gfx1100 holds each row twice."""
    i, k = np.meshgrid(np.arange(size), np.arange(depth), indexing="ij")
    if arch == "gfx1100":
        return i, k
    together = 8 if arch == "gfx1201" else 1 if type == "f32" else 4
    return i + size * (k // together), k % together


def output_place(arch: str, size: int):
    """(lane, register) of D[i, j]."""
    i, j = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    if arch == "gfx1100":
        return j + 16 * (i % 2), i // 2
    if arch == "gfx1201":
        return j + 16 * (i // 8), i % 8
    if size == 32:
        return j + 32 * (i // 4 % 2), i % 4 + 4 * (i // 8)
    return j + 16 * (i // 4), i % 4


@pytest.mark.parametrize("added", [True, False], ids=["C", "0"])
@pytest.mark.parametrize(("arch", "name", "size", "depth", "type", "words", "results"), list(cases()))
def test_product(arch, name, size, depth, type, words, results, added):
    """D = A B + C of small integers, exact in every type."""
    rng = np.random.default_rng(8)
    state = waves(arch, 2, registers=64)
    a, b = (rng.integers(-8, 9, (2, size, depth)).astype(np.float32) for _ in range(2))  # B as columns
    c = rng.integers(-100, 100, (2, size, size)).astype(np.float32)
    bits, encode = ELEMENT[type]
    lane, element = input_place(arch, size, depth, type)
    for base, matrix in ((0, a), (8, b)):
        state.vgpr[base : base + words] = 0
        shift = (element * bits % 32).astype(np.uint32)
        for wave in range(2):
            raw = encode(matrix[wave]).astype(np.uint32) << shift
            np.bitwise_or.at(state.vgpr, (base + element * bits // 32, wave, lane), raw)
        if arch == "gfx1100":
            state.vgpr[base : base + words, :, 16:] = state.vgpr[base : base + words, :, :16]
    out_lane, register = output_place(arch, size)
    for wave in range(2):
        state.vgpr[32 + register, wave, out_lane] = c[wave].view(np.uint32)
    before = state.vgpr.copy()
    span = lambda first, count: f"v{first}" if count == 1 else f"v[{first}:{first + count - 1}]"  # noqa: E731
    third = span(32, results) if added else "0"
    execute(arch, f"{name} {span(16, results)}, {span(0, words)}, {span(8, words)}, {third}", state)
    want = np.einsum("wik,wjk->wij", a, b) + (c if added else 0)
    for wave in range(2):
        np.testing.assert_array_equal(state.vgpr[16 + register, wave, out_lane].view(np.float32), want[wave])
    rest = [r for r in range(64) if not 16 <= r < 16 + results]
    np.testing.assert_array_equal(state.vgpr[rest], before[rest])


def covered() -> set[tuple[str, str]]:
    return {(p.values[0], p.values[1]) for p in cases() if p.values[0] in LANES}
