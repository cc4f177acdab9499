"""Floating-point instructions by hand: the text is silent on denormals, wrong at the edges, or far too slow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from forge.amdgcn.numbers import arithmetic
from forge.amdgcn.numbers.arithmetic import Array, flush
from forge.amdgcn.numbers.conversions import to_f16_towards_zero
from forge.amdgcn.pseudocode.by_hand.registry import D16, D32, F16, F32, F64, Registry, Run
from forge.amdgcn.pseudocode.meaning import Output

by_hand = Registry()

_FLOATS = {16: np.float16, 32: np.float32, 64: np.float64}
_RESULTS = {16: F16, 32: F32, 64: F64}


def _float(x: Array, bits: int) -> Array:
    if bits == 16:
        return x.astype(np.uint16).view(np.float16)
    return x.view(_FLOATS[bits])


def _raw(x: Array) -> Array:
    bits = arithmetic.raw(x)
    return bits.astype(np.uint32) if x.dtype == np.float16 else bits


def _one_operand(stem: str, bits: int, of: Callable[[Array], Array], *more: str, result: Output | None = None) -> None:
    def run(S0: Array) -> tuple[Array, ...]:
        return (_raw(of(_float(S0, bits))),)

    names = [f"{unit}_{stem}_f{bits}" for unit in ("v", *more)]
    by_hand(*names, outputs=(result or _RESULTS[bits],), wide="S0" if bits == 64 else "")(run)


def _two_operands(stem: str, bits: int, of: Callable[[Array, Array], Array]) -> None:
    def run(S0: Array, S1: Array) -> tuple[Array, ...]:
        return (_raw(of(_float(S0, bits), _float(S1, bits))),)

    by_hand(
        *(f"{unit}_{stem}_f{bits}" for unit in ("v", "s")),
        outputs=(_RESULTS[bits],),
        wide="S0 S1" if bits == 64 else "",
    )(run)


def fract(x: Array) -> Array:
    """x - floor(x), below 1: LLVM selects it for min(x - floor(x), the number before 1), the text rounds up to 1."""
    part: Array = np.minimum(x - np.floor(x), np.nextafter(x.dtype.type(1), x.dtype.type(0)))
    return part


def mantissa(x: Array) -> Array:
    """In [1/2, 1), of denormals too (the text leaves them as they are); infinity and NaN are themselves."""
    return np.where(np.isfinite(x), np.frexp(x)[0], x)


def _through_f64(of: Callable[[Array], Array], *, flushes: bool) -> Callable[[Array], Array]:
    """`of` computed in float64 and rounded once, which is within the hardware's error of one unit in the last place.

    With `flushes`, float32 denormals are zero on the way in and out: LLVM scales around v_exp_f32, v_log_f32 and
    v_sqrt_f32, and prefers division to v_rcp_f32 and v_rsq_f32, because these "do not support denormals"
    (AMDGPULegalizerInfo: legalizeFExp2, legalizeFlog2, legalizeFSQRTF32, legalizeFastUnsafeFDIV).
    """

    def rounded(x: Array) -> Array:
        wide = of((flush(x) if flushes else x).astype(np.float64))
        result: Array = wide.astype(x.dtype)
        return flush(result) if flushes else result

    return rounded


def _turns(of: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Sine or cosine of an angle in turns; whole turns go first, which float64 does exactly."""
    return lambda x: of((x - np.rint(x)) * (2 * np.pi))


_SLOPES: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp2,
    "log": np.log2,
    "rcp": lambda x: 1.0 / x,
    "rsq": lambda x: 1.0 / np.sqrt(x),
    "sqrt": np.sqrt,
    "rcp_iflag": lambda x: 1.0 / x,
}
for _stem, _of in _SLOPES.items():
    _one_operand(_stem, 32, _through_f64(_of, flushes=True), "v_s")
    _one_operand(_stem, 16, _through_f64(_of, flushes=False))
    # the scalar unit's float16 results clear the upper half
    _one_operand(f"s_{_stem}", 16, _through_f64(_of, flushes=False), result=D32)

for _bits in (16, 32):
    _one_operand("sin", _bits, _through_f64(_turns(np.sin), flushes=False))
    _one_operand("cos", _bits, _through_f64(_turns(np.cos), flushes=False))
for _bits in (16, 32, 64):
    # the text adds 1/2 and takes the floor, which errs just below 1/2 and above 2^22
    _one_operand("rndne", _bits, np.rint, "s")
    _one_operand("fract", _bits, fract)
    _one_operand("frexp_mant", _bits, mantissa)
    # ten times as many steps in the text; and cdna's tells +0 from -0 by comparing with them, which no comparison does
    for _stem, _choose in (
        ("min", arithmetic.min_ieee),
        ("max", arithmetic.max_ieee),
        ("min_num", arithmetic.min_number),
        ("max_num", arithmetic.max_number),
        ("minimum", arithmetic.minimum),
        ("maximum", arithmetic.maximum),
    ):
        _two_operands(_stem, _bits, _choose)


def _mad(product: Array, factor: Array, addend: Array) -> tuple[Array, ...]:
    a, b, c = (flush(x.view(np.float32)) for x in (product, factor, addend))
    return (flush(flush(a * b) + c).view(np.uint32),)


@by_hand("v_mad_f32", outputs=(F32,))
def multiply_add(S0: Array, S1: Array, S2: Array) -> tuple[Array, ...]:
    """gfx90a's, which the tables lack: a product that is rounded, then a sum; denormals are zeros in and out."""
    return _mad(S0, S1, S2)


@by_hand("v_mac_f32", outputs=(F32,))
def multiply_accumulate(S0: Array, S1: Array, D0: Array) -> tuple[Array, ...]:
    """As v_mad_f32."""
    return _mad(S0, S1, D0)


@by_hand("v_madmk_f32", outputs=(F32,))
def multiply_constant_add(S0: Array, S1: Array, SIMM32: Array) -> tuple[Array, ...]:
    """As v_mad_f32."""
    return _mad(S0, SIMM32, S1)


@by_hand("v_madak_f32", outputs=(F32,))
def multiply_add_constant(S0: Array, S1: Array, SIMM32: Array) -> tuple[Array, ...]:
    """As v_mad_f32."""
    return _mad(S0, S1, SIMM32)


def two_over_pi(bits: int = 1201) -> int:
    """floor(2 / pi * 2^bits). pi by Machin's formula, 16 arctan(1/5) - 4 arctan(1/239), with 64 bits to spare."""
    one = 1 << (bits + 64)

    def arctan_of_one_over(n: int) -> int:
        total, power, k = 0, one // n, 0
        while power:
            total += (-1) ** k * (power // (2 * k + 1))
            power //= n * n
            k += 1
        return total

    pi = 16 * arctan_of_one_over(5) - 4 * arctan_of_one_over(239)
    return (2 * one << bits) // pi


@by_hand("v_trig_preop_f64", outputs=(F64,), wide="S0")
def reduced_segment(S0: Array, S1: Array) -> tuple[Array, ...]:
    """53 bits of 2 / pi, which the text takes as a number of 1201 bits: those that an argument of S0's size needs for
    its segment S1, a segment being 53 bits further to the right."""
    field = arithmetic.exponent(S0.view(np.float64)).astype(np.int64)
    shift = (S1 & np.uint32(31)).astype(np.int64) * 53 + np.maximum(field - 1077, 0)
    shift, field = np.broadcast_arrays(shift, field)
    number = two_over_pi()
    whole = {int(n): float(((number << int(n)) >> 1201 - 53) & ((1 << 53) - 1)) for n in np.unique(shift)}
    segment = np.array([whole[int(n)] for n in shift.ravel()], np.float64).reshape(shift.shape)
    return (np.ldexp(segment, -53 - shift + np.where(field >= 1968, 128, 0)).view(np.uint64),)


def _median(bits: int) -> Run:
    def run(S0: Array, S1: Array, S2: Array) -> tuple[Array, ...]:
        """Speed."""
        return (_raw(arithmetic.median(_float(S0, bits), _float(S1, bits), _float(S2, bits))),)

    return run


for _bits in (16, 32):
    by_hand(f"v_med3_f{_bits}", outputs=(_RESULTS[_bits],))(_median(_bits))


def _exponent(bits: int, integer: int) -> Run:
    def run(S0: Array) -> tuple[Array, ...]:
        """Of denormals and zero too, where the text takes the field at its word; 0 for infinity and NaN."""
        x = _float(S0, bits)
        power = np.where(np.isfinite(x), np.frexp(x)[1], 0).astype(np.int32).view(np.uint32)
        return (power & np.uint32(0xFFFF) if integer == 16 else power,)

    return run


for _bits, _integer, _out in ((16, 16, D16), (32, 32, D32), (64, 32, D32)):
    by_hand(f"v_frexp_exp_i{_integer}_f{_bits}", outputs=(_out,), wide="S0" if _bits == 64 else "")(
        _exponent(_bits, _integer)
    )


def _ldexp(bits: int) -> Run:
    def run(S0: Array, S1: Array) -> tuple[Array, ...]:
        """S0 * 2^S1 with one rounding: the text's power over- or underflows before its product does."""
        power = S1.view(np.int32) if bits != 16 else S1.astype(np.uint16).view(np.int16).astype(np.int32)
        x = _float(S0, bits)
        wide = np.ldexp(x.astype(np.float64), np.clip(power, -4200, 4200))
        return (_raw(wide.astype(x.dtype)),)

    return run


for _bits in (16, 32, 64):
    by_hand(f"v_ldexp_f{_bits}", outputs=(_RESULTS[_bits],), wide="S0" if _bits == 64 else "")(_ldexp(_bits))


@by_hand("v_cvt_pkrtz_f16_f32", "v_cvt_pk_rtz_f16_f32", "s_cvt_pk_rtz_f16_f32", outputs=(D32,))
def pack_towards_zero(S0: Array, S1: Array) -> tuple[Array, ...]:
    """The text sets the rounding mode."""
    low, high = (_raw(to_f16_towards_zero(x.view(np.float32))) for x in (S0, S1))
    return (low | (high << np.uint32(16)),)


@by_hand("v_cvt_off_f32_i4", outputs=(F32,))
def offset4(S0: Array) -> tuple[Array, ...]:
    """The text names a table it does not give: a signed 4-bit number over 16."""
    number = (S0 << np.uint32(28)).view(np.int32) >> 28
    return ((number.astype(np.float32) / np.float32(16)).view(np.uint32),)
