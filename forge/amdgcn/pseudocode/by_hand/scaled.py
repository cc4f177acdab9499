"""gfx950's conversions between fp8, bf8 or fp4 and wider floats, by a power of two: the text names functions it lacks.

The scale is the exponent field of a float, e: a narrow number means itself times 2^(e - 127), and 255 makes NaN. A
result that fills a byte or half of its register leaves the rest as it was. Source: AMD's CDNA4 ISA document,
V_CVT_SCALEF32_*.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from forge.amdgcn.numbers.arithmetic import Array
from forge.amdgcn.numbers.conversions import f4_values, from_bf16, from_f8, to_bf16, to_f4, to_f8
from forge.amdgcn.pseudocode.by_hand.registry import D32, D64, Registry, field

by_hand = Registry()

_HALF, _BYTE = np.uint32(0xFFFF), np.uint32(0xFF)
_WIDE = ("f32", "f16", "bf16")


def _power(scale: Array) -> Array:
    """2^(e - 127) of the exponent field e, float64."""
    field = (scale >> np.uint32(23) & _BYTE).astype(np.int32)
    return np.where(field == 255, np.nan, np.ldexp(1.0, field - 127))


def _wide(bits: Array, kind: str) -> Array:
    """The float64 value of a wide number's bits."""
    if kind == "f32":
        return bits.view(np.float32).astype(np.float64)
    if kind == "f16":
        return (bits & _HALF).astype(np.uint16).view(np.float16).astype(np.float64)
    return from_bf16(bits & _HALF).astype(np.float64)


def _bits(number: Array, kind: str) -> Array:
    """A float64 rounded to a wide type, as uint32."""
    if kind == "f32":
        return number.astype(np.float32).view(np.uint32)
    if kind == "f16":
        return number.astype(np.float16).view(np.uint16).astype(np.uint32)
    return to_bf16(number.astype(np.float32)).view(np.uint32) >> np.uint32(16)


def _values(code: Array, kind: str) -> Array:
    values: Array = f4_values()[code & np.uint32(15)] if kind == "fp4" else from_f8(code, kind, True)
    return values.astype(np.float64)


def _codes(number: Array, kind: str, saturating: Array) -> Array:
    return to_f4(number) if kind == "fp4" else to_f8(number.astype(np.float32), kind, True, saturating)


def _put(D0: Array, value: Array, at: int, bits: int) -> Array:
    keep = np.uint32(~(((1 << bits) - 1) << at) & 0xFFFFFFFF)
    return (D0 & keep) | (value << np.uint32(at))


def _narrowing(kind: str, wide: str) -> None:
    bits = 4 if kind == "fp4" else 8

    def packed(first: Array, second: Array, scale: Array, D0: Array, OPSEL: Array, over: Array) -> tuple[Array, ...]:
        power = _power(scale)
        low, high = (_codes(_wide(x, wide) / power, kind, over) for x in (first, second))
        at = 8 * (field(OPSEL) >> 2) if kind == "fp4" else 16 * (field(OPSEL) >> 3)
        return (_put(D0, low | (high << np.uint32(bits)), at, 2 * bits),)

    def of_two(S0: Array, S1: Array, S2: Array, D0: Array, OPSEL: Array, FP16_OVFL: Array) -> tuple[Array, ...]:
        return packed(S0, S1, S2, D0, OPSEL, FP16_OVFL)

    def of_pair(S0: Array, S1: Array, D0: Array, OPSEL: Array, FP16_OVFL: Array) -> tuple[Array, ...]:
        return packed(S0, S0 >> np.uint32(16), S1, D0, OPSEL, FP16_OVFL)

    name = f"v_cvt_scalef32_pk_{kind}_{wide}"
    by_hand(name, outputs=(D32,))(of_two if wide == "f32" else of_pair)


def _widening(kind: str, wide: str) -> None:
    bits = 4 if kind == "fp4" else 8

    def run(S0: Array, S1: Array, OPSEL: Array) -> tuple[Array, ...]:
        at = 8 * (field(OPSEL) & 3) if kind == "fp4" else 16 * (field(OPSEL) & 1)
        code, power = S0 >> np.uint32(at), _power(S1)
        low, high = (_bits(_values(c, kind) * power, wide) for c in (code, code >> np.uint32(bits)))
        if wide == "f32":
            return (low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32)),)
        return (low | (high << np.uint32(16)),)

    by_hand(f"v_cvt_scalef32_pk_{wide}_{kind}", outputs=(D64 if wide == "f32" else D32,))(run)


def _single(kind: str, wide: str) -> Callable[..., tuple[Array, ...]]:
    def to_f32(S0: Array, S1: Array, OPSEL: Array) -> tuple[Array, ...]:
        code = S0 >> np.uint32(8 * (field(OPSEL) & 3))
        return (_bits(_values(code, kind) * _power(S1), wide),)

    def to_f16(S0: Array, S1: Array, D0: Array, OPSEL: Array) -> tuple[Array, ...]:
        return (_put(D0, to_f32(S0, S1, OPSEL)[0], 16 * (field(OPSEL) >> 3), 16),)

    return to_f32 if wide == "f32" else to_f16


for _kind in ("fp8", "bf8", "fp4"):
    for _to in _WIDE:
        _narrowing(_kind, _to)
        _widening(_kind, _to)
for _kind in ("fp8", "bf8"):
    for _to in ("f32", "f16"):
        by_hand(f"v_cvt_scalef32_{_to}_{_kind}", outputs=(D32,))(_single(_kind, _to))
