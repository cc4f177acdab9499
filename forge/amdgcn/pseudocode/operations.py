"""The pseudocode's operators as NumPy expressions, with the types they give.

Integers of one kind and width stay so, modulo their width; raw bits and slices under 32 bits are numbers of 32 bits in
sums and products (the carry of two byte slices is kept); a plain literal takes the type of the other side.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from forge.amdgcn.pseudocode.syntax import Type
from forge.amdgcn.pseudocode.values import BIT, FLOATS, INTEGERS, Value, constant, converted, dtype, storage_bits, typed
from forge.errors import UnsupportedError

_FOLD: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
    "&": operator.and_, "|": operator.or_, "^": operator.xor, "<<": operator.lshift, ">>": operator.rshift,
    "==": operator.eq, "!=": operator.ne, "<>": operator.ne, "<": operator.lt, ">": operator.gt,
    "<=": operator.le, ">=": operator.ge,
}  # fmt: skip
_COMPARE = ("==", "!=", "<>", "<", ">", "<=", ">=")


def truth(value: Value) -> Value:
    """`value` as a condition."""
    if value.constant is not None:
        return constant(int(value.constant != 0), BIT)
    return value if value.type.bits == 1 else Value(f"({value.code} != 0)", BIT)


def negation(op: str, of: Value) -> Value:
    if op == "!":
        met = truth(of)
        return constant(1 - int(met.constant or 0), BIT) if met.constant is not None else Value(f"~{met.code}", BIT)
    if of.constant is not None:
        number = -of.constant if op == "-" else ~int(of.constant)
        return constant(number, of.type, plain=of.plain)
    if op == "-" and of.type.kind == "b" and of.type.bits < 32:
        of = converted(of, Type("u", 32))
    return _wrapped(f"({op}{of.code})", of.type)


def _wrapped(code: str, of: Type) -> Value:
    """An expression that may have left the range of `of`."""
    if of.kind == "bf":
        return Value(f"to_bf16({code})", of)
    if of.kind in FLOATS or of.bits in (1, 32, 64):
        return Value(code, of)
    if of.kind == "i":
        space = storage_bits(of)
        return Value(f"(({code} << {space - of.bits}) >> {space - of.bits})", of)
    return Value(f"({code} & {(1 << of.bits) - 1})", of)


def _common(left: Value, right: Value) -> tuple[Value, Value]:
    """Both sides in one type."""
    a, b = left.type, right.type
    if a == b:
        return left, right
    if left.plain != right.plain:
        of = b if left.plain else a
        literal = left if left.plain else right
        if of.kind in INTEGERS and isinstance(literal.constant, float):
            raise UnsupportedError("pseudocode mixes an integer with a real literal")
        return (converted(_number(left, of), of), converted(_number(right, of), of))
    if (a.kind in FLOATS) != (b.kind in FLOATS):
        raise UnsupportedError("pseudocode mixes integers and floats")
    if a.kind in FLOATS:
        of = a if a.bits > b.bits else b
        return converted(left, of), converted(right, of)
    bits = max(a.bits, b.bits)
    signed = [t for t in (a, b) if t.kind == "i"]
    kind = "i" if len(signed) == 2 or (signed and (a.kind == "b" or b.kind == "b")) else "u"
    if a.kind == b.kind == "b":
        kind = "b"
    of = Type(kind, bits)
    return converted(left, of), converted(right, of)


def _number(value: Value, of: Type) -> Value:
    """A plain integer literal that meets a float is that number, not its bits."""
    if value.plain and of.kind in FLOATS and value.constant is not None:
        return constant(float(value.constant), of)
    return value


def binary(op: str, left: Value, right: Value) -> Value:
    if op in ("&&", "||"):
        return _logic(op, truth(left), truth(right))
    if op in ("<<", ">>"):
        return _shift(op, left, right)
    left, right = _common(left, right)
    of = left.type
    if left.constant is not None and right.constant is not None:
        number = _FOLD[op](left.constant, right.constant)
        plain = left.plain and right.plain
        return constant(int(number), BIT) if op in _COMPARE else constant(number, of, plain=plain)
    if op in _COMPARE:
        return _comparison(op, left, right)
    if op in "+-*/" and of.kind == "b" and of.bits < 32:
        of = Type("u", 32)
        left, right = converted(left, of), converted(right, of)
    if op in ("**", "%") or (op == "/" and of.kind in INTEGERS):
        raise UnsupportedError(f"pseudocode uses {op} on values known at run time only")
    if op in "|^" and 0 in (left.constant, right.constant):
        return right if left.constant == 0 else left
    code = f"({left.code} {op} {right.code})"
    return Value(code, of) if op in "&|^" else _wrapped(code, of)


def _logic(op: str, left: Value, right: Value) -> Value:
    for one, other in ((left, right), (right, left)):
        if one.constant is not None:
            return other if bool(one.constant) == (op == "&&") else one
    return Value(f"({left.code} {op[0]} {right.code})", BIT)


def _comparison(op: str, left: Value, right: Value) -> Value:
    simple = (0.0, float("inf"), float("-inf"))  # the same in every format: no need to widen for them
    if left.narrow is not None and right.constant in simple:
        left = left.narrow
    a, b = left.code, right.code
    if left.type.bits == 1 and op in ("==", "!=", "<>"):
        for one, other in ((left, right), (right, left)):
            if one.constant is not None:
                return other if bool(one.constant) == (op == "==") else Value(f"~{other.code}", BIT)
    if op == "<>":
        return Value(f"(({a} < {b}) | ({a} > {b}))" if left.type.kind in FLOATS else f"({a} != {b})", BIT)
    return Value(f"({a} {op} {b})", BIT)


def _shift(op: str, left: Value, by: Value) -> Value:
    """NumPy shifts by the width or more as if bit by bit, which is what the pseudocode means."""
    of = left.type
    if of.kind == "b" and of.bits < 32:
        left = converted(left, Type("u", 32))
        of = left.type
    if left.constant == 0:
        return left
    if by.constant is not None and left.constant is not None:
        return constant(_FOLD[op](int(left.constant), int(by.constant)), of)
    space = storage_bits(of)
    unsigned = f"np.uint{space}"
    amount = by.code
    if by.constant is None:
        wanted = Type("u", space)
        amount = converted(by, wanted).code if dtype(by.type) != unsigned and space == 32 else by.code
        if by.type.kind == "i":
            amount = converted(by, wanted).code
    elif int(by.constant) >= space:
        return constant(0, of)
    if of.kind == "i" and op == "<<":
        code = f"({unsigned}({int(left.constant)})" if left.constant is not None else f"({left.code}.view({unsigned})"
        return _wrapped(f"{code} << {amount}).view(np.int{space})", of)
    if of.kind == "i" and by.constant is None:
        amount = f"{amount}.astype(np.int{space})"
    code = f"({typed(left)} {op} {amount})"
    return Value(code, of) if op == ">>" else _wrapped(code, of)


def choice(met: Value, yes: Value, no: Value) -> Value:
    if met.constant is not None:
        return yes if met.constant else no
    yes, no = _common(yes, no) if yes.type != no.type else (yes, no)
    of = yes.type
    if of.bits == 1 and yes.constant is not None and no.constant is not None:
        if yes.constant == no.constant:
            return yes
        return met if yes.constant else Value(f"~{met.code}", BIT)
    if yes == no:
        return yes
    return Value(f"np.where({met.code}, {typed(yes)}, {typed(no)})", of)
