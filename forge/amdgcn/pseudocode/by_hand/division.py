"""v_div_scale, v_div_fmas and v_div_fixup: what a correctly rounded quotient is made of.

LLVM divides with q = fixup(fmas(r, y, q0), d, n), where n and d are scaled by v_div_scale so that the reciprocal y, the
estimate q0 and the remainder r stay normal numbers. The packaged text has errors, and is silent where a value is kept:
"x == DENORM" means that x is denormal; the flag is a bit a lane; a lane that no branch scales keeps S0; a divisor so
large that its reciprocal is denormal is scaled down, not up, when the quotient is denormal too; and the quotient is
scaled back by what was applied, 2^64 (2^128 in float64), up or down by the side it lies on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from forge.amdgcn.numbers.arithmetic import Array, exponent, fma_scaled, raw, to_quiet_nan
from forge.amdgcn.pseudocode.by_hand.registry import F32, F64, LANES, Registry, Run

by_hand = Registry()


@dataclass(frozen=True)
class _Format:
    type: Any
    scale: int  # exponent of the power of two that operands are scaled by
    far: int  # exponent difference from which the quotient is near the largest number
    tiny: int  # exponent field up to which a remainder of the numerator could be denormal
    overflow: int  # exponent difference from which the quotient is infinite for certain
    underflow: int  # and below which it is zero


_F32 = _Format(np.float32, 64, 96, 23, 130, -150)
_F64 = _Format(np.float64, 128, 768, 53, 1026, -1075)


def _denormal(x: Array) -> Array:
    size = np.abs(x)
    denormal: Array = (size > 0) & (size < np.finfo(x.dtype).tiny)
    return denormal


def _scale(form: _Format) -> Run:
    def run(S0: Array, S1: Array, S2: Array) -> tuple[Array, ...]:
        """S0 is the divisor S1 or the numerator S2: it comes out scaled, with a flag where fmas must scale back."""
        x, divisor, numerator = (operand.view(form.type) for operand in (S0, S1, S2))
        one = form.type(1)
        quotient_denormal = _denormal(numerator / divisor)
        reciprocal_denormal = _denormal(one / divisor)
        undefined = (divisor == 0) | (numerator == 0)
        far = exponent(numerator) - exponent(divisor) >= form.far
        is_divisor, is_numerator = x == divisor, x == numerator
        up, down = np.ldexp(x, form.scale), np.ldexp(x, -form.scale)
        cases = (
            (undefined, np.full_like(x, np.nan)),
            (far, np.where(is_divisor, up, x)),
            (_denormal(divisor), up),
            (reciprocal_denormal & quotient_denormal, np.where(is_divisor, down, x)),
            (reciprocal_denormal, down),
            (quotient_denormal, np.where(is_numerator, up, x)),
            (exponent(numerator) <= form.tiny, up),
        )
        conditions = np.broadcast_arrays(*(condition for condition, _ in cases))
        results = np.broadcast_arrays(*(result for _, result in cases), x)
        scaled = np.select(conditions, results[:-1], results[-1])
        flag = ~undefined & (far | (quotient_denormal & ~_denormal(divisor)))
        return raw(scaled), flag

    return run


def _fmas(form: _Format) -> Run:
    def run(S0: Array, S1: Array, S2: Array, VCC: Array, laneId: Array) -> tuple[Array, ...]:
        """S0 * S1 + S2, times the scale where the flag is set, rounded once. S2 is the scaled quotient."""
        remainder, reciprocal, quotient = (operand.view(form.type) for operand in (S0, S1, S2))
        flag = ((VCC >> laneId) & np.uint64(1)) != 0
        back = np.where(np.abs(quotient) >= 1, form.scale, -form.scale)
        return (raw(fma_scaled(remainder, reciprocal, quotient, np.where(flag, back, 0))),)

    return run


def _fixup(form: _Format) -> Run:
    def run(S0: Array, S1: Array, S2: Array) -> tuple[Array, ...]:
        """The quotient S0 of S2 by S1, except where IEEE 754 says otherwise than arithmetic on scaled numbers.

        The text's test for overflow can't be met; where the quotient is far out of range, S0 may be NaN.
        """
        quotient, divisor, numerator = (operand.view(form.type) for operand in (S0, S1, S2))
        negative = np.signbit(divisor) ^ np.signbit(numerator)
        infinity = form.type(np.inf)
        difference = np.frexp(numerator)[1] - np.frexp(divisor)[1]
        zero_divisor, zero = divisor == 0, numerator == 0
        infinite_divisor, infinite = np.isinf(divisor), np.isinf(numerator)
        size = np.abs(quotient)
        size = np.where(difference >= form.overflow, infinity, size)
        size = np.where(exponent(numerator) - exponent(divisor) < form.underflow, form.type(0), size)
        size = np.where(infinite_divisor | zero, form.type(0), size)
        size = np.where(zero_divisor | infinite, infinity, size)
        result = np.where(negative, -size, size)
        result = np.where((zero_divisor & zero) | (infinite_divisor & infinite), form.type(np.nan), result)
        result = np.where(np.isnan(divisor), to_quiet_nan(divisor), result)
        return (raw(np.where(np.isnan(numerator), to_quiet_nan(numerator), result)),)

    return run


for _bits, _form, _result in ((32, _F32, F32), (64, _F64, F64)):
    _wide = "S0 S1 S2" if _bits == 64 else ""
    by_hand(f"v_div_scale_f{_bits}", outputs=(_result, LANES), wide=_wide)(_scale(_form))
    by_hand(f"v_div_fmas_f{_bits}", outputs=(_result,), wide=_wide)(_fmas(_form))
    by_hand(f"v_div_fixup_f{_bits}", outputs=(_result,), wide=_wide)(_fixup(_form))
