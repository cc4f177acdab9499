"""A syntax tree -> the text of a Python function over NumPy arrays.

Every lane runs every branch: a variable after `if` is `np.where` over what the branches leave. Loops are unrolled;
`break` clears a mask under which the rest of the loop runs. D0 where the text does not write it keeps what it held.
"""

from __future__ import annotations

from collections.abc import Mapping

from forge.amdgcn.pseudocode.calls import OVERFLOW, call
from forge.amdgcn.pseudocode.expressions import Expressions
from forge.amdgcn.pseudocode.meaning import Output
from forge.amdgcn.pseudocode.operations import binary, choice, negation, truth
from forge.amdgcn.pseudocode.syntax import (
    Assign,
    Bit,
    Break,
    Declare,
    Define,
    Expr,
    For,
    If,
    Invocation,
    Name,
    Return,
    Slice,
    Statement,
    Type,
    View,
)
from forge.amdgcn.pseudocode.values import BIT, I32, U32, Value, bits, constant, converted, resized, typed, viewed
from forge.amdgcn.pseudocode.variables import FIELDS, INPUTS, Scope, Variables
from forge.errors import UnsupportedError

_OUTPUTS = ("D0", "D1", "VCC", "EXEC", "SCC")
_RUNNING, _RESULT = "%running", "%result"  # not yet broken out of the loop; what a function returns
_IGNORED = ("TRAPSTS.INVALID", "ROUND_MODE", "prev_mode")  # exceptions are masked; the rounding is to nearest even


class Emitter:
    """Translates one instruction. `instructions` gives the text of others that it calls, as statements."""

    def __init__(self, widths: Mapping[str, int], instructions: Mapping[str, tuple[Statement, ...]]) -> None:
        self.variables = Variables(widths)
        self.expressions = Expressions(self.variables, self.called)
        self.instructions = instructions
        self.functions: dict[str, Define] = {}  # that the text defines
        self.lane_masks: set[str] = set()  # results that are a bit a lane
        self.floats: set[str] = set()  # results written as floating-point numbers
        self.let, self.value = self.variables.let, self.expressions.value

    def function(self, name: str, body: tuple[Statement, ...]) -> tuple[str, tuple[str, ...], tuple[Output, ...]]:
        """The text of the function, its inputs in order and its outputs in order."""
        scope: Scope = {}
        self.run(body, scope)
        results = [self.result(name, output, scope) for output in _OUTPUTS if output in scope]
        if not results:
            raise UnsupportedError(f"pseudocode of {name} writes no result")
        lines = self.variables.lines
        codes = [lines.let(code) for _, code in results]
        inputs = [i for i in (*INPUTS, *FIELDS) if i in self.variables.used]
        return lines.source(name, inputs, codes), tuple(inputs), tuple(output for output, _ in results)

    def result(self, name: str, output: str, scope: Scope) -> tuple[Output, str]:
        """A result and the code of its bits."""
        value = self.variables.read(output, scope)
        if output in self.lane_masks:
            return Output(output, 1, per_lane_bit=True), _array(value, value.code)
        is_float = output in self.floats and value.type.kind in ("f", "bf")
        raw = resized(bits(value), 32) if output == "SCC" else bits(value)
        width = 1 if output == "SCC" else raw.type.bits
        if width not in (1, 16, 32, 64):
            raise UnsupportedError(f"pseudocode of {name} writes {width} bits of {output}")
        return Output(output, width, float=is_float), _array(raw, typed(raw))

    def run(self, body: tuple[Statement, ...], scope: Scope) -> None:
        """Translate statements; `scope` becomes what holds after them."""
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
                        self.expressions.arrays[name] = of
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
        """What `name` holds after a branch; where one side does not write it, what it held before."""
        if name in yes and name in no:
            ends = [self.variables.read(name, yes), self.variables.read(name, no)]
            if name == "D0" and name not in self.lane_masks and ends[0].type.bits != ends[1].type.bits:
                ends = [self.over(end, max(ends[0].type.bits, ends[1].type.bits)) for end in ends]
            return self.let(choice(met, *ends))
        known = self.variables.read(name, yes if name in yes else no)
        if name in self.lane_masks or name not in self.variables.widths:
            other = constant(0, known.type)
        else:
            other = viewed(self.variables.input(name, known.type.bits), known.type)
        return self.let(choice(met, known, other) if name in yes else choice(met, other, known))

    def over(self, low: Value, width: int) -> Value:
        """`width` bits of D0 after a branch that wrote only the low ones."""
        if low.type.bits == width:
            return bits(low)
        above = constant(-1 << low.type.bits, Type("b", width))
        kept = binary("&", self.variables.input("D0", width), above)
        return self.let(binary("|", self.let(kept), self.let(resized(bits(low), width))))

    def loop(self, statement: For, scope: Scope) -> None:
        """Once for each number from first to last, as long as no `break` was met."""
        first, last = self.value(statement.first, scope), self.value(statement.last, scope)
        if first.constant is None or last.constant is None:
            raise UnsupportedError("pseudocode loops to a bound that is known at run time only")
        scope[_RUNNING] = constant(1, BIT)
        for i in range(int(first.constant), int(last.constant) + 1):
            scope[statement.name] = constant(i, I32)
            self.branch(If(((Name(_RUNNING), statement.body),), ()), scope)
        del scope[_RUNNING], scope[statement.name]

    def assign(self, target: Expr, value: Value, scope: Scope) -> None:
        """`target = value`, for a variable, a view or slice of one, a bit, or an element of an array."""
        arrays = self.expressions.arrays
        match target:
            case Name(name):
                scope[name] = self.let(value)
            case View(Name(name), of):
                self.variables.store(name, 0, of.bits, self.let(_fitted(value, of)), scope)
                if of.kind in ("f", "bf"):
                    self.floats.add(name)
            case View(Slice() as part, of):
                self.assign(part, _fitted(value, of), scope)
            case Bit(View(Name(name), Type("u", 64)), Name("laneId")):
                self.lane_masks.add(name)
                scope[name] = self.let(truth(value))
            case Bit(Name(name), at) if name in arrays:
                scope[self.expressions.element(name, at, scope)] = self.let(converted(value, arrays[name]))
            case Bit(of, at):
                self.assign(Slice(of, at, at), resized(bits(value), 1), scope)
            case Slice(Name(name), high, low) | Slice(View(Name(name), _), high, low):
                top, bottom = self.value(high, scope), self.value(low, scope)
                if bottom.constant is not None and top.constant is not None:
                    width = int(top.constant) - int(bottom.constant) + 1
                    piece = self.let(resized(bits(value), width))
                    self.variables.store(name, int(bottom.constant), width, piece, scope)
                else:
                    self.insert(name, bottom, value, target, scope)
            case _:
                raise UnsupportedError(f"pseudocode assigns to {type(target).__name__}")

    def insert(self, name: str, at: Value, value: Value, target: Slice, scope: Scope) -> None:
        """One bit at a place known at run time only."""
        of = target.of.type if isinstance(target.of, View) else U32
        if target.high != target.low:
            raise UnsupportedError("pseudocode writes a slice whose place is known at run time only")
        held = self.variables.read(name, scope) if name in scope else self.variables.input(name, of.bits)
        bit = self.let(binary("<<", constant(1, of), at))
        kept = self.let(binary("&", viewed(held, of), self.let(negation("~", bit))))
        put = self.let(binary("<<", converted(resized(bits(value), 1), of), at))
        scope[name] = self.let(binary("|", kept, put))

    def called(self, expression: Invocation, scope: Scope) -> Value:
        """A call of a function that the text defines, of one it takes for granted, or of another instruction."""
        name, arguments = expression.name, expression.arguments
        values = [self.value(argument, scope) for argument in arguments]
        if name in self.functions:
            define = self.functions[name]
            inner = {**scope, **dict(zip(define.parameters, values, strict=True))}
            self.run(define.body, inner)
            return self.variables.read(_RESULT, inner)
        known = call(name, arguments, values, lambda e: self.value(e, scope))
        if known is not None and OVERFLOW in known.code:
            self.variables.used.add(OVERFLOW)
        if known is not None:
            return known
        if name in self.instructions:
            operands: Scope = {f"S{i}": value for i, value in enumerate(values)}
            self.run(self.instructions[name], operands)
            return self.variables.read("D0", operands)
        raise UnsupportedError(f"pseudocode calls {name}, which is not known")


def _array(value: Value, code: str) -> str:
    """The code of a result: a constant as an array that broadcasts."""
    return code if value.constant is None else f"np.full((1, 1), {code})"


def _fitted(value: Value, of: Type) -> Value:
    """`value` as stored through a view of type `of`: a number of its sort is converted, other bits are kept."""
    is_float, to_float = value.type.kind in ("f", "bf"), of.kind in ("f", "bf")
    alike = is_float == to_float and value.type.kind != "b"
    return converted(value, of) if value.plain or alike else viewed(value, of)
