"""The functions that the pseudocode takes for granted, as calls into `forge.amdgcn.numbers`."""

from __future__ import annotations

import re
from collections.abc import Callable

from forge.amdgcn.pseudocode.syntax import Cast, Expr, Type
from forge.amdgcn.pseudocode.values import BIT, FLOATS, I32, Value, constant, converted, typed
from forge.errors import UnsupportedError

OVERFLOW = "FP16_OVFL"  # a bit of MODE: what overflows fp16 or fp8 becomes the largest number
_TESTS = {"isNAN": "is_nan", "isQuietNAN": "is_quiet_nan", "isSignalNAN": "is_signal_nan", "sign": "sign"}
_SAME = {  # one argument, result of its type
    "abs": "np.abs", "trunc": "np.trunc", "floor": "np.floor", "sqrt": "np.sqrt", "cvtToQuietNAN": "to_quiet_nan",
}  # fmt: skip
_EXTREMES = re.compile(r"v_(min|max|minimum|maximum)(3?)(_num)?_f(16|32|64)")
_CONVERSION = re.compile(r"(u4|i4|u8|i8|u16|i16|u32|i32|i64|f16|f32|f64|bf16|fp8|bf8)_to_(\w+)")


def call(name: str, arguments: tuple[Expr, ...], values: list[Value], again: Callable[[Expr], Value]) -> Value | None:
    """The value of a call, or None for a name that is not one of these. `again` translates an argument anew."""
    first = values[0] if values else None
    if first is None:
        return None
    if name in _TESTS or name == "cvtToQuietNAN":
        # the text widens to f64 first, where a signalling NaN would already be quiet: the test is on the number itself
        if isinstance(arguments[0], Cast) and arguments[0].type == Type("f", 64):
            first = again(arguments[0].of)
        if name in _TESTS:
            return Value(f"{_TESTS[name]}({typed(first)})", BIT)
    if name in _SAME:
        return Value(f"{_SAME[name]}({typed(first)})", first.type)
    if name == "fma":
        return Value(f"fma({', '.join(typed(converted(value, first.type)) for value in values)})", first.type)
    if name == "exponent":
        return Value(f"exponent({typed(first)})", I32)
    if name == "signext":
        return first
    if name == "signext_from_bit":
        count = converted(values[1], Type("i", first.type.bits))
        return Value(f"sign_extended({first.code}, {typed(count)})", first.type)
    if match := _EXTREMES.fullmatch(name):
        return _extreme(match, values)
    if match := _CONVERSION.fullmatch(name):
        return _conversion(match.group(1), match.group(2), first)
    return None


def _extreme(match: re.Match[str], values: list[Value]) -> Value:
    """`v_max_f32(a, b)` inside another instruction; the families name the three orders of NaN apart."""
    which, number = match.group(1), match.group(3)
    function = which if which in ("minimum", "maximum") else f"{which}_{'number' if number else 'ieee'}"
    of = values[0].type
    codes = [typed(converted(value, of)) for value in values]
    code = f"{function}({codes[0]}, {codes[1]})"
    return Value(code if len(codes) == 2 else f"{function}({code}, {codes[2]})", of)


def _conversion(source: str, target: str, value: Value) -> Value:
    if target in ("snorm", "unorm"):
        kind = "i" if target == "snorm" else "u"
        return Value(f'to_norm({typed(value)}, "{kind}")', Type(kind, 16))
    match = re.fullmatch(r"(?:(fp8|bf8)|(u|i|f|bf)(\d+))", target)
    if match is None:
        raise UnsupportedError(f"pseudocode converts to {target}, which is not known")
    of = Type(match.group(1), 8) if match.group(1) else Type(match.group(2), int(match.group(3)))
    if value.constant is not None:
        return constant(value.constant, of)
    if value.type.kind in FLOATS:
        if of.kind in ("u", "i"):
            return Value(f'to_integer({value.code}, "{of.kind}", {of.bits})', of)
        if of.kind in ("fp8", "bf8"):
            return Value(f'to_f8({value.code}, "{of.kind}", OCP, {OVERFLOW})', Type("b", 8))
        return converted(value, of)
    if of.kind == "f":
        if of.bits == 16:  # NumPy would go through float32, which rounds nothing here: 16 bits are exact there
            return Value(f"{value.code}.astype(np.float32).astype(np.float16)", of)
        return Value(f"{value.code}.astype(np.float{of.bits})", of)
    narrower = of.bits < int(re.sub(r"\D", "", source))
    return Value(f'saturated({value.code}, "{of.kind}", {of.bits})', of) if narrower else converted(value, of)
