"""A syntax tree -> the text of a Python function over NumPy arrays.

Every lane runs every branch: a variable after `if` is `np.where` over what the branches leave. Loops are unrolled;
`break` clears a mask under which the rest of the loop runs. D0 where the text does not write it keeps what it held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forge.amdgcn.pseudocode.calls import call
from forge.amdgcn.pseudocode.lines import Lines
from forge.amdgcn.pseudocode.meaning import Output
from forge.amdgcn.pseudocode.operations import binary, choice, negation, truth
from forge.amdgcn.pseudocode.parse import (
    Assign,
    Binary,
    Bit,
    Break,
    Call,
    Cast,
    Choice,
    Concat,
    Declare,
    Define,
    Expr,
    For,
    If,
    Name,
    Number,
    Return,
    Slice,
    Statement,
    Type,
    Unary,
    View,
)
from forge.amdgcn.pseudocode.values import BIT, I32, U32, Value, bits, constant, converted, resized, typed, viewed
from forge.errors import UnsupportedError

INPUTS = ("S0", "S1", "S2", "D0", "SCC", "VCC", "EXEC", "laneId", "SIMM16", "SIMM32")
FIELDS = ("OPSEL", "OPSEL_HI", "NEG", "NEG_HI", "TTBL", "WAVE32")  # of the encoding: uint32[1, 1]
_OUTPUTS = ("D0", "D1", "VCC", "EXEC", "SCC")
_MASKS = ("VCC", "EXEC")
_RUNNING, _RESULT = "%running", "%result"  # not yet broken out of the loop; what a function returns
_CONSTANTS = {
    "WAVE_MODE.IEEE": constant(1, BIT),  # set by the kernel descriptor of compute kernels; absent where it has no bit
    "INF": constant(float("inf"), Type("f", 64), plain=True),
    "MAX_FLOAT_F32": constant(float.fromhex("0x1.fffffep127"), Type("f", 32)),
}
_IGNORED = ("TRAPSTS.INVALID", "ROUND_MODE", "prev_mode")  # exceptions are masked; the rounding is to nearest even


@dataclass(frozen=True)
class Parts:
    """A variable written piecewise: (low, width, bits), over what it held before, if that matters."""

    pieces: tuple[tuple[int, int, Value], ...]

    @property
    def width(self) -> int:
        return max(low + width for low, width, _ in self.pieces)

    @property
    def whole(self) -> bool:
        return sum(width for _, width, _ in self.pieces) == self.width


Scope = dict[str, Value | Parts]


class Emitter:
    """Translates one instruction. `instructions` gives the text of others that it calls, as statements."""

    def __init__(self, widths: Mapping[str, int], instructions: Mapping[str, tuple[Statement, ...]]) -> None:
        self.lines = Lines()
        self.widths, self.instructions = widths, instructions
        self.used: set[str] = set()
        self.functions: dict[str, Define] = {}
        self.arrays: dict[str, Type] = {}
        self.lane_masks: set[str] = set()
        self.floats: set[str] = set()

    def function(self, name: str, body: tuple[Statement, ...]) -> tuple[str, tuple[str, ...], tuple[Output, ...]]:
        """The text of the function, its inputs in order and its outputs in order."""
        scope: Scope = {}
        self.run(body, scope)
        results, codes = [], []
        for output in _OUTPUTS:
            if output not in scope:
                continue
            value = self.read(output, scope)
            if output in self.lane_masks:
                results.append(Output(output, 1, per_lane_bit=True))
                codes.append(f"np.full((1, 1), {value.code})" if value.constant is not None else value.code)
                continue
            is_float = output in self.floats and value.type.kind in ("f", "bf")
            raw = resized(bits(value), 32) if output == "SCC" else bits(value)
            width = 1 if output == "SCC" else raw.type.bits
            if width not in (1, 16, 32, 64):
                raise UnsupportedError(f"pseudocode of {name} writes {width} bits of {output}")
            results.append(Output(output, width, float=is_float))
            codes.append(f"np.full((1, 1), {typed(raw)})" if raw.constant is not None else raw.code)
        if not results:
            raise UnsupportedError(f"pseudocode of {name} writes no result")
        codes = [self.lines.let(code) for code in codes]
        inputs = [i for i in (*INPUTS, *FIELDS) if i in self.used]
        return self.lines.source(name, inputs, codes), tuple(inputs), tuple(results)

    # Statements

    def run(self, body: tuple[Statement, ...], scope: Scope) -> None:
        for statement in body:
            match statement:
                case Assign(targets, value):
                    if not (isinstance(targets[0], Name) and targets[0].name in _IGNORED):
                        result = self.value(value, scope)
                        for target in targets:
                            self.assign(target, result, scope)
                case If():
                    self.branch(statement, scope)
                case For():
                    self.loop(statement, scope)
                case Declare(name, of, length):
                    if length is None:
                        scope[name] = constant(0, of)
                    else:
                        self.arrays[name] = of
                case Define(name):
                    self.functions[name] = statement
                case Return(value):
                    scope[_RESULT] = self.value(value, scope)
                case Break():
                    scope[_RUNNING] = constant(0, BIT)

    def branch(self, statement: If, scope: Scope) -> None:
        """Each branch on a copy of the scope, then from the last one backwards `where(condition, branch, rest)`."""
        ends: list[tuple[Value, Scope]] = []
        rest = dict(scope)
        for condition, body in statement.branches:
            met = self.let(truth(self.value(condition, scope)))
            if met.constant == 0:
                continue
            end = dict(scope)
            self.run(body, end)
            if met.constant is not None:
                rest = end
                break
            ends.append((met, end))
        else:
            self.run(statement.otherwise, rest)
        for met, end in reversed(ends):
            for name in {**end, **rest}:
                if end.get(name) != rest.get(name):
                    rest[name] = self.merged(met, name, end, rest)
        scope.update(rest)

    def merged(self, met: Value, name: str, yes: Scope, no: Scope) -> Value:
        if name in yes and name in no:
            ends = [self.read(name, yes), self.read(name, no)]
            if name == "D0" and name not in self.lane_masks and ends[0].type.bits != ends[1].type.bits:
                ends = [self.over(end, max(ends[0].type.bits, ends[1].type.bits)) for end in ends]
            return self.let(choice(met, *ends))
        known = self.read(name, yes if name in yes else no)
        if name in self.lane_masks or name not in self.widths:
            other = constant(0, known.type)
        else:
            other = viewed(self.input(name, known.type.bits), known.type)
        return self.let(choice(met, known, other) if name in yes else choice(met, other, known))

    def over(self, low: Value, width: int) -> Value:
        """`width` bits of D0 after a branch that wrote only the low ones."""
        if low.type.bits == width:
            return bits(low)
        kept = binary("&", self.input("D0", width), constant(-1 << low.type.bits, Type("b", width)))
        return self.let(binary("|", self.let(kept), self.let(resized(bits(low), width))))

    def loop(self, statement: For, scope: Scope) -> None:
        first, last = self.value(statement.first, scope), self.value(statement.last, scope)
        if first.constant is None or last.constant is None:
            raise UnsupportedError("pseudocode loops to a bound that is known at run time only")
        scope[_RUNNING] = constant(1, BIT)
        for i in range(int(first.constant), int(last.constant) + 1):
            scope[statement.name] = constant(i, I32)
            self.branch(If(((Name(_RUNNING), statement.body),), ()), scope)
        del scope[_RUNNING], scope[statement.name]

    def assign(self, target: Expr, value: Value, scope: Scope) -> None:
        match target:
            case Name(name):
                scope[name] = self.let(value)
            case View(Name(name), of):
                self.store(name, 0, of.bits, self.let(self.fitted(value, of)), scope)
                if of.kind in ("f", "bf"):
                    self.floats.add(name)
            case View(Slice() as part, of):
                self.assign(part, self.fitted(value, of), scope)
            case Bit(View(Name(name), Type("u", 64)), Name("laneId")):
                self.lane_masks.add(name)
                scope[name] = self.let(truth(value))
            case Bit(Name(name), at) if name in self.arrays:
                scope[self.element(name, at, scope)] = self.let(converted(value, self.arrays[name]))
            case Bit(of, at):
                self.assign(Slice(of, at, at), resized(bits(value), 1), scope)
            case Slice(Name(name), high, low) | Slice(View(Name(name), _), high, low):
                top, bottom = self.value(high, scope), self.value(low, scope)
                if bottom.constant is not None and top.constant is not None:
                    width = int(top.constant) - int(bottom.constant) + 1
                    piece = self.let(resized(bits(value), width))
                    self.store(name, int(bottom.constant), width, piece, scope)
                else:
                    self.insert(name, bottom, value, target, scope)
            case Bit() | _:
                raise UnsupportedError(f"pseudocode assigns to {type(target).__name__}")

    def insert(self, name: str, at: Value, value: Value, target: Slice, scope: Scope) -> None:
        """One bit at a place known at run time only."""
        of = target.of.type if isinstance(target.of, View) else U32
        if target.high != target.low:
            raise UnsupportedError("pseudocode writes a slice whose place is known at run time only")
        old = viewed(self.read(name, scope) if name in scope else self.input(name, of.bits), of)
        bit = self.let(binary("<<", constant(1, of), at))
        kept = self.let(binary("&", old, self.let(negation("~", bit))))
        put = self.let(binary("<<", converted(resized(bits(value), 1), of), at))
        scope[name] = self.let(binary("|", kept, put))

    def store(self, name: str, low: int, width: int, value: Value, scope: Scope) -> None:
        """Bits low .. low + width - 1 of `name`. The low part of D0 alone is a result of that width."""
        old = scope.get(name)
        if low == 0 and (old is None or (isinstance(old, Value) and old.type.bits <= width)):
            scope[name] = value if name != "SCC" else truth(value)
            return
        pieces = old.pieces if isinstance(old, Parts) else ()
        if isinstance(old, Value):
            pieces = ((0, old.type.bits, old),)
        kept = []
        for start, size, piece in pieces:
            if low <= start and start + size <= low + width:
                continue
            if start < low < start + size:
                raw = bits(piece)
                if low + width < start + size:
                    rest = Value(f"({raw.code} >> {low + width - start})", Type("b", start + size - low - width))
                    kept.append((low + width, rest.type.bits, self.let(rest)))
                kept.append((start, low - start, self.let(resized(raw, low - start))))
            elif start < low + width and low < start + size:
                rest = Value(f"({typed(bits(piece))} >> {low + width - start})", Type("b", start + size - low - width))
                kept.append((low + width, rest.type.bits, self.let(rest)))
            else:
                kept.append((start, size, piece))
        scope[name] = Parts(tuple(sorted([*kept, (low, width, value)], key=lambda piece: piece[0])))

    # Expressions

    def let(self, value: Value) -> Value:
        if value.constant is not None:
            return value
        return Value(self.lines.let(value.code), value.type, narrow=value.narrow)

    def fitted(self, value: Value, of: Type) -> Value:
        """`value` as stored through a view of type `of`: a number of its sort is converted, other bits are kept."""
        floats = (value.type.kind == "f" or value.type.kind == "bf", of.kind == "f" or of.kind == "bf")
        if value.plain or floats == (True, True) or (floats == (False, False) and value.type.kind != "b"):
            return converted(value, of)
        return viewed(value, of)

    def input(self, name: str, width: int = 32) -> Value:
        self.used.add(name)
        if name in FIELDS or name in ("SCC", "laneId", "SIMM16", "SIMM32"):
            return Value(name, U32)
        if name in _MASKS:
            return Value(name, Type("b", 64))
        have = max(width, self.widths.get(name, 32)) if name == "D0" else self.widths.get(name, 32)
        return Value(name, Type("b", 64 if have > 32 else 32))

    def read(self, name: str, scope: Scope) -> Value:
        if name not in scope:
            if name in _CONSTANTS:
                return _CONSTANTS[name]
            if name in INPUTS or name in FIELDS:
                return self.input(name)
            raise UnsupportedError(f"pseudocode reads {name}, which this machine does not hold")
        held = scope[name]
        if isinstance(held, Value):
            return held
        width = held.width
        wide = width if held.whole else 32 if width <= 32 else 64
        if wide > 64:
            raise UnsupportedError(f"pseudocode needs a value of {wide} bits")
        whole: Value | None = None
        if not held.whole and name in self.widths:
            kept = (1 << wide) - 1 - sum(((1 << size) - 1) << low for low, size, _ in held.pieces)
            whole = self.let(binary("&", self.input(name, wide), constant(kept, Type("b", wide))))
        for low, _, piece in held.pieces:
            part = resized(bits(piece), wide)
            part = self.let(binary("<<", part, constant(low, U32)) if low else part)
            part = Value(part.code, Type("b", wide), part.constant)
            whole = part if whole is None else self.let(binary("|", whole, part))
        assert whole is not None
        return Value(whole.code, Type("b", wide), whole.constant)

    def element(self, name: str, at: Expr, scope: Scope) -> str:
        index = self.value(at, scope)
        if index.constant is None:
            raise UnsupportedError("pseudocode indexes an array by a value known at run time only")
        return f"{name}[{int(index.constant)}]"

    def value(self, expression: Expr, scope: Scope) -> Value:
        return self.let(self._value(expression, scope))

    def _value(self, expression: Expr, scope: Scope) -> Value:
        match expression:
            case Number(number, of):
                if of is not None:
                    return constant(number, of)
                return constant(number, Type("f", 64) if isinstance(number, float) else I32, plain=True)
            case Name(name):
                return self.read(name, scope)
            case View(Slice(of, Number(high), Number(0)), to) if high == to.bits - 1:
                return viewed(self.value(of, scope), to)
            case View(of, to):
                return viewed(self.value(of, scope), to)
            case Cast(of, to):
                return converted(self.value(of, scope), to)
            case Bit(Name(name), at) if name in self.arrays:
                return self.read(self.element(name, at, scope), scope)
            case Bit(of, at):
                return self.bit(self.value(of, scope), self.value(at, scope))
            case Slice(of, high, low):
                return self.slice(self.value(of, scope), self.value(high, scope), self.value(low, scope))
            case Unary(op, of):
                return negation(op, self.value(of, scope))
            case Binary(op, left, right):
                return binary(op, self.value(left, scope), self.value(right, scope))
            case Choice(condition, yes, no):
                met = self.let(truth(self.value(condition, scope)))
                return choice(met, self.value(yes, scope), self.value(no, scope))
            case Concat(parts):
                return self.concatenated([self.value(part, scope) for part in parts])
            case Call(name, arguments):
                return self.called(name, arguments, scope)

    def bit(self, of: Value, at: Value) -> Value:
        raw = bits(of)
        if at.constant is not None:
            return Value(f"({typed(raw)} & {1 << int(at.constant)}) != 0", BIT)
        shifted = self.let(binary(">>", raw, at))
        return Value(f"({shifted.code} & 1) != 0", BIT)

    def slice(self, of: Value, high: Value, low: Value) -> Value:
        if high.constant is None or low.constant is None:
            raise UnsupportedError("pseudocode cuts a slice whose place is known at run time only")
        raw, first, last = bits(of), int(low.constant), int(high.constant)
        if first > last:
            raise UnsupportedError("pseudocode reverses bits")
        if raw.constant is not None:
            return constant(int(raw.constant) >> first, Type("b", last - first + 1))
        if first == 0 and last >= raw.type.bits - 1:
            return raw
        if first == 0:
            return resized(raw, last + 1)
        code, have, width = f"({raw.code} >> {first})", raw.type.bits - first, last - first + 1
        if raw.type.bits <= 32 or width > 32:
            return resized(Value(code, Type("b", have)), width)
        code = f"{code}.astype(np.uint32)"  # from uint64 storage, whatever is left in it
        return Value(code if width == 32 else f"({code} & {(1 << width) - 1})", Type("b", width))

    def concatenated(self, parts: list[Value]) -> Value:
        total = sum(part.type.bits for part in parts)
        if total > 64:
            raise UnsupportedError(f"pseudocode needs a value of {total} bits")
        whole = constant(0, Type("b", total))
        at = total
        for part in parts:
            at -= part.type.bits
            wide = self.let(resized(bits(part), total))
            whole = self.let(binary("|", whole, self.let(binary("<<", wide, constant(at, U32)) if at else wide)))
        return Value(whole.code, Type("b", total), whole.constant)

    def called(self, name: str, arguments: tuple[Expr, ...], scope: Scope) -> Value:
        if name in self.functions:
            define = self.functions[name]
            inner = dict(scope)
            inner.update(zip(define.parameters, (self.value(a, scope) for a in arguments), strict=True))
            self.run(define.body, inner)
            return self.read(_RESULT, inner)
        values = [self.value(argument, scope) for argument in arguments]
        known = call(name, arguments, values, lambda e: self.value(e, scope))
        if known is not None:
            return known
        if name in self.instructions:
            inner = {f"S{i}": value for i, value in enumerate(values)}
            self.run(self.instructions[name], inner)
            return self.read("D0", inner)
        raise UnsupportedError(f"pseudocode calls {name}, which is not known")
