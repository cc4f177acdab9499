"""The variables of a generated function: inputs that are read, names that hold values, and those written piecewise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forge.amdgcn.pseudocode.lines import Lines
from forge.amdgcn.pseudocode.operations import binary, truth
from forge.amdgcn.pseudocode.syntax import Type
from forge.amdgcn.pseudocode.values import BIT, U32, Value, bits, constant, resized, typed
from forge.errors import UnsupportedError

INPUTS = ("S0", "S1", "S2", "D0", "SCC", "VCC", "EXEC", "laneId", "SIMM16", "SIMM32")
FIELDS = ("OPSEL", "OPSEL_HI", "NEG", "NEG_HI", "TTBL", "WAVE32", "FP16_OVFL")  # of the encoding: uint32[1, 1]
MASKS = ("VCC", "EXEC")
_CONSTANTS = {
    "WAVE_MODE.IEEE": constant(1, BIT),  # set by the kernel descriptor of compute kernels; absent where it has no bit
    "INF": constant(float("inf"), Type("f", 64), plain=True),
    "MAX_FLOAT_F32": constant(float.fromhex("0x1.fffffep127"), Type("f", 32)),
}


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


Scope = dict[str, Value | Parts]  # what each name holds at a place in the text


class Variables:
    """Those of one function. `widths` are the bits of the operands that are not 32; `used` the inputs read so far."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        self.lines, self.widths = Lines(), widths
        self.used: set[str] = set()

    def let(self, value: Value) -> Value:
        """`value` under a name, so that it is computed once."""
        if value.constant is not None:
            return value
        return Value(self.lines.let(value.code), value.type, narrow=value.narrow)

    def input(self, name: str, width: int = 32) -> Value:
        """An operand, mask or field as the function gets it: at least `width` bits of D0."""
        self.used.add(name)
        if name in FIELDS or name in ("SCC", "laneId", "SIMM16", "SIMM32"):
            return Value(name, U32)
        if name in MASKS:
            return Value(name, Type("b", 64))
        have = self.widths.get(name, 32)
        if name == "D0":
            have = max(have, width)
        return Value(name, Type("b", 64 if have > 32 else 32))

    def read(self, name: str, scope: Scope) -> Value:
        """What `name` holds. Raises UnsupportedError for one that nobody wrote and the machine does not have."""
        if name not in scope:
            if name in _CONSTANTS:
                return _CONSTANTS[name]
            if name in INPUTS or name in FIELDS:
                return self.input(name)
            raise UnsupportedError(f"pseudocode reads {name}, which this machine does not hold")
        held = scope[name]
        return held if isinstance(held, Value) else self._joined(name, held)

    def _joined(self, name: str, held: Parts) -> Value:
        """The pieces of an operand over what it held before; those of another variable over zero."""
        wide = held.width if held.whole else 32 if held.width <= 32 else 64
        if wide > 64:
            raise UnsupportedError(f"pseudocode needs a value of {wide} bits")
        raw = Type("b", wide)
        whole: Value | None = None
        if not held.whole and name in self.widths:
            written = sum(((1 << size) - 1) << low for low, size, _ in held.pieces)
            kept = constant((1 << wide) - 1 - written, raw)
            whole = self.let(binary("&", self.input(name, wide), kept))
        for low, _, piece in held.pieces:
            part = resized(bits(piece), wide)
            part = self.let(binary("<<", part, constant(low, U32)) if low else part)
            part = Value(part.code, raw, part.constant)
            whole = part if whole is None else self.let(binary("|", whole, part))
        assert whole is not None
        return Value(whole.code, raw, whole.constant)

    def store(self, name: str, low: int, width: int, value: Value, scope: Scope) -> None:
        """Bits low .. low + width - 1 of `name`. The low part of D0 alone is a result of that width."""
        held = scope.get(name)
        if low == 0 and (held is None or (isinstance(held, Value) and held.type.bits <= width)):
            scope[name] = value if name != "SCC" else truth(value)
            return
        pieces = held.pieces if isinstance(held, Parts) else ()
        if isinstance(held, Value):
            pieces = ((0, held.type.bits, held),)
        pieces = tuple(rest for piece in pieces for rest in self._around(piece, low, low + width))
        scope[name] = Parts(tuple(sorted((*pieces, (low, width, value)), key=lambda piece: piece[0])))

    def _around(self, piece: tuple[int, int, Value], low: int, high: int) -> list[tuple[int, int, Value]]:
        """What is left of a piece when bits low .. high - 1 are written over."""
        start, width, value = piece
        end = start + width
        if end <= low or high <= start:
            return [piece]
        left, raw = [], bits(value)
        if end > high:
            rest = Value(f"({typed(raw)} >> {high - start})", Type("b", end - high))
            left.append((high, end - high, self.let(rest)))
        if start < low:
            left.append((start, low - start, self.let(resized(raw, low - start))))
        return left
