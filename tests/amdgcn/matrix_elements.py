"""Matrix elements in registers and back, and their numbers, from the words of AMD's ISA documents and torch's types.

Written apart from the code it tests: layouts the other way round (which element a lane's item is), formats by torch.
"""

from __future__ import annotations

import numpy as np
import torch

from forge.amdgcn.matrix import MatrixOp
from forge.amdgcn.matrix.ops import BITS

WAVES = 3
TORCH = {
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "xf32": torch.float32,
    "f64": torch.float64,
    "fp8": torch.float8_e4m3fn,
    "bf8": torch.float8_e5m2,
    "fp8fnuz": torch.float8_e4m3fnuz,
    "bf8fnuz": torch.float8_e5m2fnuz,
}
WORD = {
    8: (torch.uint8, np.uint8),
    16: (torch.int16, np.uint16),
    32: (torch.int32, np.uint32),
    64: (torch.int64, np.uint64),
}
# digits of the significand, exponent of the smallest normal, largest finite
ROUND = {
    "f32": (24, -126, float(np.finfo(np.float32).max)),
    "f16": (11, -14, 65504.0),
    "bf16": (8, -126, float(torch.finfo(torch.bfloat16).max)),
    "xf32": (11, -126, np.inf),
}


def family(op: MatrixOp) -> str:
    return "cdna" if "mfma" in op.name else "rdna3" if op.copies > 1 else "rdna4"


# (block, row or column, k), and (block, row, column), of [item, lane]
Places = tuple[np.ndarray, np.ndarray, np.ndarray]


def input_at(op: MatrixOp) -> Places:
    lane = np.arange(op.lanes)[None]
    if family(op) == "rdna3":  # all of a row in one lane, the same in every 16 lanes
        return 0 * lane, lane % 16, np.arange(16)[:, None] + 0 * lane
    a_lane = op.m * op.k * op.blocks // op.lanes
    return lane // op.m % op.blocks, lane % op.m, np.arange(a_lane)[:, None] + a_lane * (lane // (op.m * op.blocks))


def output_at(op: MatrixOp) -> Places:
    lane, item = np.arange(op.lanes)[None], np.arange(op.m * op.n * op.blocks // op.lanes)[:, None]
    if family(op) == "rdna3":
        return 0 * item, op.lanes // 16 * item + lane // 16, lane % 16
    if family(op) == "rdna4":
        return 0 * item, item + 8 * (lane // 16), lane % 16
    if op.d_type == "f64":
        return (0 * item, 4 * item + lane // 16, lane % 16) if op.m == 16 else (lane // 4 % 4, lane // 16, lane % 4)
    return {
        4: (lane // 4, item, lane % 4),
        16: (item // 4, 4 * (lane // 16) + item % 4, lane % 16),
        32: (item // 16, 8 * (item // 4 % 4) + 4 * (lane // 32) + item % 4, lane % 32),
    }[op.m]


def pack(bits: np.ndarray, width: int) -> np.ndarray:
    """[items, waves, lanes] elements into dwords, from the low bits up."""
    if width == 64:
        return np.stack([bits & 0xFFFFFFFF, bits >> 32], 1).astype(np.uint32).reshape(-1, *bits.shape[1:])
    parts = 32 // width
    return sum(bits[p::parts].astype(np.uint32) << np.uint32(width * p) for p in range(parts))


def unpack(words: np.ndarray, width: int) -> np.ndarray:
    if width == 64:
        return words[0::2].astype(np.uint64) | words[1::2].astype(np.uint64) << np.uint64(32)
    parts = [words >> np.uint32(p) & np.uint32((1 << width) - 1) for p in range(0, 32, width)]
    return np.stack(parts, 1).reshape(-1, *words.shape[1:])


def lay_a(op: MatrixOp, bits: np.ndarray, kind: str) -> np.ndarray:
    """bits[waves, blocks, m, k] into A's registers; B's when given transposed."""
    block, row, k = input_at(op)
    return pack(bits[:, block, row, k].transpose(1, 0, 2), BITS[kind])


def lay_c(op: MatrixOp, bits: np.ndarray, *, half: int = 0) -> np.ndarray:
    items = bits[(slice(None), *output_at(op))].transpose(1, 0, 2)
    if "half" in op.modifiers:
        other = np.uint32(0xBEEF << (0 if half else 16))
        return items.astype(np.uint32) << np.uint32(16 * half) | other
    return pack(items, BITS[op.d_type])


def read_d(op: MatrixOp, words: np.ndarray, *, half: int = 0) -> np.ndarray:
    if "half" in op.modifiers:
        assert (words >> np.uint32(0 if half else 16) & 0xFFFF == 0xBEEF).all()
        items = words >> np.uint32(16 * half) & np.uint32(0xFFFF)
    else:
        items = unpack(words, BITS[op.d_type])
    assert words.dtype == np.uint32
    assert words.shape == (op.c_regs, WAVES, op.lanes)
    d = np.zeros((WAVES, op.blocks, op.m, op.n), np.uint64)
    d[(slice(None), *output_at(op))] = items.transpose(1, 0, 2)
    return d


def encode(values: np.ndarray, kind: str) -> np.ndarray:
    integer, unsigned = WORD[BITS[kind]]
    return torch.from_numpy(values).to(TORCH[kind]).view(integer).numpy().view(unsigned)


def decode(bits: np.ndarray, kind: str) -> np.ndarray:
    integer, unsigned = WORD[BITS[kind]]
    signed = bits.astype(unsigned).view(f"i{BITS[kind] // 8}" if BITS[kind] > 8 else "u1")
    values = torch.from_numpy(signed).view(integer).view(TORCH[kind]).double().numpy()
    return round_to(values, "xf32") if kind == "xf32" else values


def round_to(x: np.ndarray, kind: str) -> np.ndarray:
    """To nearest even, once, on the grid of the type's own spacing."""
    digits, smallest, largest = ROUND[kind]
    quantum = np.ldexp(1.0, np.maximum(np.frexp(np.where(np.isfinite(x), x, 1))[1] - 1, smallest) - digits + 1)
    rounded = np.where(np.isfinite(x), np.rint(x / quantum) * quantum, x)
    return np.where(np.abs(rounded) > largest, np.copysign(np.inf, x), rounded)
