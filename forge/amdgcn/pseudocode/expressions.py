"""Expressions of the pseudocode as values in generated NumPy code."""

from __future__ import annotations

from collections.abc import Callable

from forge.amdgcn.pseudocode.operations import binary, choice, negation, truth
from forge.amdgcn.pseudocode.syntax import (
    Binary,
    Bit,
    Cast,
    Concat,
    Expr,
    Invocation,
    Name,
    Number,
    Slice,
    Ternary,
    Type,
    Unary,
    View,
)
from forge.amdgcn.pseudocode.values import BIT, I32, U32, Value, bits, constant, converted, resized, typed, viewed
from forge.amdgcn.pseudocode.variables import Scope, Variables
from forge.errors import UnsupportedError


class Expressions:
    """Translates the expressions of one function; each value gets a name. `called` translates a call.

    `arrays` are the declared arrays by name, with the type of an element: "name[3]" is then a variable of its own.
    """

    def __init__(self, variables: Variables, called: Callable[[Invocation, Scope], Value]) -> None:
        self.variables, self.called = variables, called
        self.arrays: dict[str, Type] = {}

    def value(self, expression: Expr, scope: Scope) -> Value:
        """What `expression` is where names hold what `scope` says."""
        return self.variables.let(self._value(expression, scope))

    def element(self, name: str, at: Expr, scope: Scope) -> str:
        """The variable that an element of an array is."""
        index = self.value(at, scope)
        if index.constant is None:
            raise UnsupportedError("pseudocode indexes an array by a value known at run time only")
        return f"{name}[{int(index.constant)}]"

    def _value(self, expression: Expr, scope: Scope) -> Value:
        match expression:
            case Number(number, of):
                if of is not None:
                    return constant(number, of)
                return constant(number, Type("f", 64) if isinstance(number, float) else I32, plain=True)
            case Name(name):
                return self.variables.read(name, scope)
            case View(Slice(of, Number(high), Number(0)), to) if high == to.bits - 1:
                return viewed(self.value(of, scope), to)
            case View(of, to):
                return viewed(self.value(of, scope), to)
            case Cast(of, to):
                return converted(self.value(of, scope), to)
            case Bit(Name(name), at) if name in self.arrays:
                return self.variables.read(self.element(name, at, scope), scope)
            case Bit(of, at):
                return self._bit(self.value(of, scope), self.value(at, scope))
            case Slice(of, high, low):
                return _slice(self.value(of, scope), self.value(high, scope), self.value(low, scope))
            case Unary(op, of):
                return negation(op, self.value(of, scope))
            case Binary(op, left, right):
                return binary(op, self.value(left, scope), self.value(right, scope))
            case Ternary(condition, yes, no):
                met = self.variables.let(truth(self.value(condition, scope)))
                return choice(met, self.value(yes, scope), self.value(no, scope))
            case Concat(parts):
                return self._concatenated([self.value(part, scope) for part in parts])
            case Invocation():
                return self.called(expression, scope)

    def _bit(self, of: Value, at: Value) -> Value:
        raw = bits(of)
        if at.constant is not None:
            return Value(f"({typed(raw)} & {1 << int(at.constant)}) != 0", BIT)
        shifted = self.variables.let(binary(">>", raw, at))
        return Value(f"({shifted.code} & 1) != 0", BIT)

    def _concatenated(self, parts: list[Value]) -> Value:
        let = self.variables.let
        total = sum(part.type.bits for part in parts)
        if total > 64:
            raise UnsupportedError(f"pseudocode needs a value of {total} bits")
        whole = constant(0, Type("b", total))
        at = total
        for part in parts:
            at -= part.type.bits
            wide = let(resized(bits(part), total))
            whole = let(binary("|", whole, let(binary("<<", wide, constant(at, U32)) if at else wide)))
        return Value(whole.code, Type("b", total), whole.constant)


def _slice(of: Value, high: Value, low: Value) -> Value:
    """Bits `high` down to `low` of `of`, as raw bits."""
    if high.constant is None or low.constant is None:
        raise UnsupportedError("pseudocode cuts a slice whose place is known at run time only")
    raw, first, last = bits(of), int(low.constant), int(high.constant)
    if first > last:
        raise UnsupportedError("pseudocode reverses bits")
    have, width = raw.type.bits - first, last - first + 1
    if raw.constant is not None:
        return constant(int(raw.constant) >> first, Type("b", width))
    if first == 0:
        return raw if width >= raw.type.bits else resized(raw, width)
    code = f"({raw.code} >> {first})"
    if raw.type.bits <= 32 or width > 32:
        return resized(Value(code, Type("b", have)), width)
    code = f"{code}.astype(np.uint32)"  # from uint64 storage, whatever is left in it
    return Value(code if width == 32 else f"({code} & {(1 << width) - 1})", Type("b", width))
