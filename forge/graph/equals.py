"""What follows from `equals`, the expression in other ops that a fused op is declared by: types, oracle, cost, roles.

The expression is run with stand-ins for its operands. An op called on one does not run: it hands the call to an
interpreter, which answers with types, numbers, costs or whatever else it reads out of the expression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forge.errors import GraphError

Interpret = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Cost:
    """Compulsory work of a call: bytes that must cross device memory once, and arithmetic operations."""

    bytes: int = 0
    flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.flops + other.flops)


class Traceable:
    """An operand that stands for a value which is not there yet: an op called on one asks it what the result is."""

    def trace(self, op: Any, operands: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
        """The result of `op` on these operands, at least one of which is traceable."""
        raise TypeError(f"{type(self).__name__} does not say what an op gives on it")


@dataclass(frozen=True)
class Traced(Traceable):
    """A stand-in operand: ops called on it hand `(op, payloads, attrs)` to `interpret` instead of running."""

    payload: Any
    interpret: Interpret

    def trace(self, op: Any, operands: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
        for name, operand in zip(op.operands, operands, strict=True):
            if operand is not None and not isinstance(operand, Traced):
                raise GraphError(f"the operand {name} of {op.name} is {operand!r:.80}, and no operand or result")
        result = self.interpret(op, tuple(a.payload if isinstance(a, Traced) else a for a in operands), attrs)
        if isinstance(result, tuple):
            return tuple(Traced(r, self.interpret) for r in result)
        return Traced(result, self.interpret)


def trace_equals(
    equals: Callable[..., Any], payloads: Sequence[Any], attrs: Mapping[str, Any], interpret: Interpret
) -> tuple[Any, ...]:
    """Run an `equals` expression with each op replaced by `interpret`; the payloads of its results.

    Raises GraphError if the expression is no expression of ops in its operands.
    """
    result = equals(*(None if p is None else Traced(p, interpret) for p in payloads), **attrs)
    results = result if isinstance(result, tuple) else (result,)
    for r in results:
        if not isinstance(r, Traced):
            raise GraphError(f"`equals` gives {r!r:.80}, which no op has made")
    return tuple(r.payload for r in results)


class Attribute:
    """Stands for an attribute of a fused op while its expression is traced. Arithmetic on one gives another.

    An expression may compute with its attributes but not branch on them: what it is must not depend on their values.
    """

    def __init__(self, text: str, computed: bool = False) -> None:
        self.text, self.computed = text, computed

    def _with(self, sign: str, other: Any) -> Attribute:
        return Attribute(f"({self.text} {sign} {getattr(other, 'text', other)!s})", True)

    def __add__(self, other: Any) -> Attribute:
        return self._with("+", other)

    def __sub__(self, other: Any) -> Attribute:
        return self._with("-", other)

    def __mul__(self, other: Any) -> Attribute:
        return self._with("*", other)

    def __floordiv__(self, other: Any) -> Attribute:
        return self._with("//", other)

    __radd__, __rmul__ = __add__, __mul__

    def _refuse(self, *others: Any) -> Any:
        raise GraphError(f"`equals` branches on the attribute {self.text}: its expression must be one for all values")

    __bool__ = __eq__ = __lt__ = __gt__ = __le__ = __ge__ = _refuse
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<attribute {self.text}>"


def roles_in(fused: Any) -> dict[str, str]:
    """The roles that a fused op's operands have in the ops of its expression."""
    found: dict[str, str] = {}

    def note(op: Any, operands: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
        for name, operand in zip(op.operands, operands, strict=True):
            if operand and name in op.roles:
                found.setdefault(operand, op.roles[name])
        if op.equals:
            return trace_equals(op.equals, operands, attrs, note)
        return ("",) * op.results if op.results > 1 else ""

    trace_equals(fused.equals, fused.operands, {name: Attribute(name) for name in fused.attributes}, note)
    return found


def derived(equals: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Types, oracle and unfused cost of a fused op, by interpreting its expression three ways."""

    def one_or_all(results: tuple[Any, ...]) -> Any:
        return results[0] if len(results) == 1 else results

    def infer(op: Any, types: tuple[Any, ...], attrs: Mapping[str, Any]) -> Any:
        return one_or_all(op.infer(types, attrs))

    def types(*operands: Any, **attrs: Any) -> Any:
        return one_or_all(trace_equals(equals, operands, attrs, infer))

    def reference(*operands: Any, **attrs: Any) -> Any:
        return one_or_all(trace_equals(equals, operands, attrs, lambda op, args, kw: op.reference(*args, **kw)))

    def cost(*operands: Any, **attrs: Any) -> Cost:
        total = Cost()

        def add(op: Any, args: tuple[Any, ...], kw: Mapping[str, Any]) -> Any:
            nonlocal total
            total += op.cost(*args, **kw)
            return infer(op, args, kw)

        trace_equals(equals, operands, attrs, add)
        return total

    return {"types": types, "reference": reference, "cost": cost}
