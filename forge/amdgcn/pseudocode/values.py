"""Typed pieces of generated NumPy code: how a value of each type is stored, viewed, converted and cut.

An unsigned or raw value of up to 32 bits is a uint32 array with zeros above, of up to 64 a uint64 array; a signed one
int32 or int64, sign-extended; a single bit is bool. "f" is float16, float32 or float64; bfloat16 and the 8-bit floats
are float32 arrays that hold such values only. A constant knows its Python value.
"""

from __future__ import annotations

from dataclasses import dataclass

from forge.amdgcn.pseudocode.syntax import Type
from forge.errors import UnsupportedError

U32, U64, I32, I64, BIT = Type("u", 32), Type("u", 64), Type("i", 32), Type("i", 64), Type("u", 1)
INTEGERS, FLOATS = ("u", "i", "b"), ("f", "bf", "fp8", "bf8")


@dataclass(frozen=True)
class Value:
    """`code` is a Python expression of `type`; `constant` its value where it is known while translating."""

    code: str
    type: Type
    constant: int | float | None = None
    plain: bool = False  # a literal without a suffix, which takes the type of what it meets
    narrow: Value | None = None  # the float that this one was widened from


def dtype(of: Type) -> str:
    if of.kind in FLOATS:
        return f"np.float{of.bits}" if of.kind == "f" else "np.float32"
    if of.bits == 1:
        return "np.bool_"
    if of.bits > 64:
        raise UnsupportedError(f"pseudocode needs a value of {of.bits} bits")
    return f"np.{'int' if of.kind == 'i' else 'uint'}{32 if of.bits <= 32 else 64}"


def storage_bits(of: Type) -> int:
    return 32 if of.bits <= 32 else 64


def wrap(number: int, of: Type) -> int:
    """`number` modulo 2^bits, in the range of `of`."""
    number &= (1 << of.bits) - 1
    return number - (1 << of.bits) if of.kind == "i" and number >> (of.bits - 1) else number


def constant(number: int | float, of: Type, *, plain: bool = False) -> Value:
    """A literal of type `of`, written so that NumPy takes on the other operand's type."""
    if of.kind in FLOATS:
        number = float(number)
        return Value("np.nan" if number != number else repr(number).replace("inf", "np.inf"), of, number, plain)
    number = wrap(int(number), of)
    return Value(repr(bool(number)) if of.bits == 1 else str(number), of, number, plain)


def typed(value: Value) -> str:
    """The code of `value`; of a constant, with its NumPy type spelt out."""
    return value.code if value.constant is None else f"{dtype(value.type)}({value.code})"


def bits(value: Value) -> Value:
    """The raw bits of `value`, zero-extended in unsigned storage."""
    of, code = value.type, value.code
    result = Type("b", of.bits)
    if value.constant is not None and of.kind in INTEGERS:
        return constant(wrap(int(value.constant), result), result)
    code = typed(value)
    if of.kind in ("u", "b"):
        return Value(code, result)
    if of.kind == "i":
        code = f"{code}.view(np.uint{storage_bits(of)})"
        return Value(code if of.bits in (32, 64) else f"({code} & {(1 << of.bits) - 1})", result)
    if of.kind == "f":
        return Value(f"{code}.view(np.uint{of.bits})" + (".astype(np.uint32)" if of.bits == 16 else ""), result)
    if of.kind == "bf":
        return Value(f"({code}.view(np.uint32) >> 16)", result)
    raise UnsupportedError(f"pseudocode takes the bits of an {of.kind}")


def resized(value: Value, width: int) -> Value:
    """Raw bits `value` cut or zero-extended to `width`."""
    have = value.type.bits
    result = Type("b", width)
    if value.constant is not None:
        return constant(int(value.constant), result)
    code = value.code
    if have == width:
        return value
    if have == 1:
        return Value(f"{code}.astype(np.uint{storage_bits(result)})", result)
    if width == 1:
        return Value(f"(({code} & 1) != 0)", result)
    if storage_bits(value.type) != storage_bits(result):
        code = f"{code}.astype(np.uint{storage_bits(result)})"
    if width < have and width not in (32, 64):
        code = f"({code} & {(1 << width) - 1})"
    return Value(code, result)


def viewed(value: Value, of: Type) -> Value:
    """The low bits of `value` read as `of`: the pseudocode's `value.f32`."""
    if value.type == of:
        return value
    if of.kind in FLOATS and value.plain and isinstance(value.constant, float):
        return constant(value.constant, of)
    if of == Type("f", 16) and value.type.kind in ("u", "b") and value.type.bits <= 32 and value.constant is None:
        return Value(f"{value.code}.astype(np.uint16).view(np.float16)", of)
    cut = of.kind == "i" and value.type.kind in ("u", "b") and 32 >= value.type.bits > of.bits > 1
    if cut and value.constant is None:  # the shifts drop what lies above
        return Value(f"(({value.code} << {32 - of.bits}).view(np.int32) >> {32 - of.bits})", of)
    raw = resized(bits(value), of.bits)
    if raw.constant is not None and of.kind in INTEGERS:
        return constant(int(raw.constant), of)
    code = typed(raw)
    if of.kind in ("u", "b"):
        return Value(code, of)
    if of.kind == "i":
        space = storage_bits(of)
        if of.bits == space:
            return Value(f"{code}.view(np.int{space})", of)
        return Value(f"(({code} << {space - of.bits}).view(np.int{space}) >> {space - of.bits})", of)
    if of.kind == "f":
        return Value(f"{code}{'.astype(np.uint16)' if of.bits == 16 else ''}.view(np.float{of.bits})", of)
    if of == Type("bf", 16):
        return Value(f"from_bf16({code})", of)
    return Value(f'from_f8({code}, "{of.kind}", OCP)', of)


def converted(value: Value, of: Type) -> Value:
    """`value` as a number of type `of`: the pseudocode's `32'U(value)`. An integer becomes a float bit by bit."""
    have = value.type
    if have == of:
        return value
    if value.constant is not None and (have.kind in INTEGERS) == (of.kind in INTEGERS):
        return constant(value.constant, of, plain=value.plain)
    if have.kind in FLOATS and of.kind in FLOATS:
        code = typed(value)
        if dtype(have) != dtype(of):
            code = f"{code}.astype({dtype(of)})"
        narrow = value if have.bits < of.bits else None
        return Value(f"to_bf16({code})" if of.kind == "bf" else code, of, narrow=narrow)
    if have.kind in FLOATS or of.kind in FLOATS or have.bits == 1 or have.bits >= of.bits or have.kind != "i":
        return viewed(value, of)
    if storage_bits(have) == storage_bits(of):  # a signed number into more bits of the same storage
        return viewed(Value(value.code, Type("i", storage_bits(have))), of)
    wide = Value(f"{value.code}.astype(np.int64)", I64)
    return viewed(wide, of)
