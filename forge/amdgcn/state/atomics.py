"""Atomic operations: `new = update(old, operands...)`, lane after lane, wave after wave.

Lanes that name one address follow each other in lane order, so that each sees what the one before left; hardware
promises no order, and this one makes runs repeatable. The operations are those of AMD's pseudocode; floating addition
rounds to nearest and keeps denormals, which hardware may flush.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from forge.amdgcn.numbers.arithmetic import max_number, min_number
from forge.amdgcn.numbers.conversions import from_bf16, to_bf16
from forge.amdgcn.trap import UNKNOWN, Fault

Update = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Atomic:
    """`change(old, *operands)` gives the new value; `many.at` does it to repeated addresses in order, where it can."""

    dtype: np.dtype[np.generic]
    change: Update
    operands: int = 1
    many: np.ufunc | None = None

    @property
    def size(self) -> int:
        return self.dtype.itemsize


def update(
    flat: np.ndarray, index: np.ndarray, atomic: Atomic, operands: list[np.ndarray], returned: bool
) -> np.ndarray | None:
    """Change `flat[index]` in the order of `index`; returns each element's old value if `returned`."""
    if atomic.many is not None and not returned:
        atomic.many.at(flat, index, operands[0])
        return None
    order = np.argsort(index, kind="stable")
    sorted_index = index[order]
    fresh = np.concatenate([[True], sorted_index[1:] != sorted_index[:-1]])
    if fresh.all():
        old = flat[index]
        flat[index] = atomic.change(old, *operands)
        return np.asarray(old)
    place = np.arange(len(index))
    turn = np.empty(len(index), np.int64)
    turn[order] = place - np.maximum.accumulate(np.where(fresh, place, 0))  # how many lanes before use the address
    old = np.empty(len(index), flat.dtype)
    for now in range(int(turn.max()) + 1):
        lanes = np.flatnonzero(turn == now)
        here = index[lanes]
        old[lanes] = flat[here]
        flat[here] = atomic.change(old[lanes], *(o[lanes] for o in operands))
    return old


def _add(old: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.asarray(old + value)


def _less(old: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.where(value < old, value, old)


def _greater(old: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.where(value > old, value, old)


def _halves(old: np.ndarray, value: np.ndarray) -> np.ndarray:
    return (old.view(np.float16) + value.view(np.float16)).view(np.uint32)


def _brain_halves(old: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Two bf16 sums, rounded to nearest even. A float32 sum first does no harm: 24 bits are more than 2 * 8 + 2."""
    low, high = (from_bf16(v.view(np.uint16).astype(np.uint32)) for v in (old, value))
    return (to_bf16(low + high).view(np.uint32) >> 16).astype(np.uint16).view(np.uint32)


CHANGES: dict[str, tuple[Update, int, np.ufunc | None]] = {
    "add": (_add, 1, np.add),
    "sub": (lambda old, value: old - value, 1, np.subtract),
    "rsub": (lambda old, value: value - old, 1, None),
    "min": (_less, 1, np.minimum),
    "max": (_greater, 1, np.maximum),
    "and": (lambda old, value: old & value, 1, np.bitwise_and),
    "or": (lambda old, value: old | value, 1, np.bitwise_or),
    "xor": (lambda old, value: old ^ value, 1, np.bitwise_xor),
    "inc": (lambda old, value: np.where(old >= value, 0, old + old.dtype.type(1)).astype(old.dtype), 1, None),
    "dec": (
        lambda old, value: np.where((old == 0) | (old > value), value, old - old.dtype.type(1)), 1, None,
    ),
    "swap": (lambda old, value: value, 1, None),
    "cmpswap": (lambda old, value, compare: np.asarray(np.where(old == compare, value, old)), 2, None),
    "sub_clamp": (lambda old, value: np.where(old < value, old.dtype.type(0), old - value), 1, None),
    "cond_sub": (lambda old, value: np.where(old >= value, old - value, old), 1, None),
    "mskor": (lambda old, mask, value: (old & ~mask) | value, 2, None),
    "wrap": (lambda old, value, more: np.where(old >= value, old - value, old + more), 2, None),
    "min_num": (min_number, 1, None),
    "max_num": (max_number, 1, None),
}  # fmt: skip
PACKED: dict[str, Update] = {"f16": _halves, "bf16": _brain_halves}
SPELLINGS = {
    "smin": ("min", "i"), "smax": ("max", "i"), "umin": ("min", "u"), "umax": ("max", "u"), "csub": ("sub_clamp", "u"),
    "wrxchg": ("swap", "u"), "storexchg": ("swap", "u"), "cmpst": ("cmpswap", "u"), "cmpstore": ("cmpswap", "u"),
}  # fmt: skip


def named(text: str) -> Atomic:
    """The atomic of a mnemonic's tail: `add_u32`, `smin_x2`, `cmpswap_b64`, `pk_add_bf16`, `add_f64`, `inc`."""
    if text.startswith("pk_add_"):
        packed = PACKED.get(text.removeprefix("pk_add_"))
        if packed is not None:
            return Atomic(np.dtype(np.uint32), packed)
    operation, _, tail = text.rpartition("_")
    kind, width = "u", 4
    if tail == "x2":
        width = 8
    elif tail[:1] in ("u", "i", "b", "f") and tail[1:] in ("32", "64") and operation:
        kind, width = "u" if tail[0] == "b" else tail[0], int(tail[1:]) // 8
    else:
        operation = text
    if operation in SPELLINGS:
        operation, spelled = SPELLINGS[operation]
        kind = kind if kind == "f" else spelled
    if operation not in CHANGES:
        raise Fault(UNKNOWN, f"no atomic operation {text!r}")
    change, operands, many = CHANGES[operation]
    if kind == "f" and many is not np.add:
        many = None  # minimum and maximum treat NaN differently from the comparison
    return Atomic(np.dtype(f"{kind}{width}"), change, operands, many)
