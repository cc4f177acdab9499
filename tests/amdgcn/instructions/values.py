"""Element types and the values at their edges, as bits."""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np

BITS = {"f16": 16, "f32": 32, "f64": 64, "i16": 16, "u16": 16, "b16": 16, "i32": 32, "u32": 32, "b32": 32}
BITS |= {"i64": 64, "u64": 64, "b64": 64, "mix": 32, "pk.f16": 32, "pk.b16": 32, "pk.f32": 64, "pk.b32": 64}
FLOATS = {16: np.float16, 32: np.float32, 64: np.float64}
WORDS = {16: np.uint16, 32: np.uint32, 64: np.uint64}
INLINE_FLOATS = ("0.5", "-0.5", "1.0", "-1.0", "2.0", "-2.0", "4.0", "-4.0")

F32 = [
    0, 0x80000000, 0x3F800000, 0xBF800000, 0x3F000000, 0xBF000000, 0x40000000, 0x7F800000, 0xFF800000, 0x7FC00000,
    0xFFC12345, 0x7F800001, 0xFFA00000, 1, 0x80000001, 0x007FFFFF, 0x80012345, 0x00800000, 0x80800000, 0x7F7FFFFF,
    0xFF7FFFFF, 0x3F800001, 0x3F7FFFFF, 0x477FE000, 0x477FEFFF, 0x477FF000, 0x33000000, 0x33000001, 0x38800000,
    0x40490FDB, 0x42FE0000, 0x4F000000, 0xCF000000, 0xCF000001, 0x4F800000, 0x40200000, 0xC0600000, 0x437F8000,
    0x4EFFFFFF, 0x3F317218, 0x7E800001, 0xC2FE0000, 0xC3150000,
]  # fmt: skip
F16 = [
    0, 0x8000, 0x3C00, 0xBC00, 0x3800, 0x4000, 0x7C00, 0xFC00, 0x7E00, 0xFE12, 0x7C01, 1, 0x8001, 0x03FF, 0x0400,
    0x8400, 0x7BFF, 0xFBFF, 0x3C01, 0x3BFF, 0x4248, 0x5BF0, 0x1400, 0xC500, 0x6A3F,
]  # fmt: skip
F64 = [
    0, 1 << 63, 0x3FF0 << 48, 0xBFF0 << 48, 0x3FE0 << 48, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, (0x7FF0 << 48) + 1,
    1, (1 << 63) + 5, (1 << 52) - 1, 1 << 52, 0x7FEFFFFFFFFFFFFF, 0xFFEFFFFFFFFFFFFF, (0x3FF0 << 48) + 1,
    0x41DFFFFFFFC00000, 0x41E0000000000000, 0xC1E0000000000000, 0xC1E0000000200000, 0x3FD5555555555555,
    0x400921FB54442D18, 0xC00C000000000000, 0x4330000000000001, 0x47EFFFFFE0000000, 0x47EFFFFFF0000000,
    0x36A0000000000000, 0x3690000000000001, 0x3FB999999999999A, 0x7E37E43C8800759C, 0x0010000000000001,
]  # fmt: skip
I32 = [
    0, 1, 2, 3, 4, 7, 8, 15, 16, 24, 31, 32, 33, 63, 64, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000,
    0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFF80, 0xFFFF8000,
    0x12345678, 0xDEADBEEF, 0x55555555, 0x80FF7F01,
]  # fmt: skip
I16 = [0, 1, 2, 8, 15, 16, 17, 31, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0xFFFE, 0x1234, 0xABCD]
I64 = [
    0, 1, 2, 5, 31, 32, 63, 0xFFFFFFFF, 1 << 32, 0x7FFFFFFF, 0x80000000, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
    (1 << 64) - 2, 0xFFFFFFFF00000000, 0x123456789ABCDEF0, 0xFEDCBA9876543210, 0x8000000000000001,
]  # fmt: skip
TABLES = {"f32": F32, "f16": F16, "f64": F64, "i": I32, "16": I16, "64": I64}


@lru_cache(None)
def edges(type: str) -> np.ndarray:
    """uint64[k]: the edge values of a type with some noise after them. A packed one pairs them with a second order."""
    rng = np.random.default_rng(sum(type.encode()))
    if type.startswith("pk.") or type == "mix":
        element = {"pk.f16": "f16", "pk.b16": "b16", "pk.f32": "f32", "pk.b32": "b32", "mix": "f16"}[type]
        low = edges(element)
        pairs = np.concatenate([low | np.roll(low, k) << np.uint64(BITS[element]) for k in (0, 1, 7)])
        return np.concatenate([pairs, edges("f32")]) if type == "mix" else pairs
    bits = BITS[type]
    table = TABLES.get(type) or {16: I16, 32: I32, 64: I64}[bits]
    noise = rng.integers(0, 1 << 64, 5, dtype=np.uint64, endpoint=False) >> np.uint64(64 - bits)
    return np.concatenate([np.array(table, np.uint64), noise])


def constant(text: str, type: str) -> int:
    """The bits of a constant as an operand of a type: inline values take its width, a float64 literal its upper half.

    Of a pair of f32 both halves see it; of a pair of f16 the lower one, which op_sel_hi then chooses for both.
    """
    if type == "pk.f32":
        return constant(text, "f32") * 0x1_0000_0001
    bits = 16 if type == "pk.f16" else BITS[type]
    if text in INLINE_FLOATS:
        width = 32 if type in ("b32", "i32", "u32", "b16", "u16", "i16") else bits  # an integer sees the float32 bits
        code = {16: "e", 32: "f", 64: "d"}[width]
        return int.from_bytes(struct.pack("<" + code, float(text)), "little") & ((1 << bits) - 1)
    value = int(text, 0)
    if type == "f64" and not -16 <= value <= 64:
        return value << 32 & ((1 << 64) - 1)
    return value & ((1 << bits) - 1)
