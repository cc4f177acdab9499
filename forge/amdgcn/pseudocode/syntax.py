"""The syntax tree of AMD's pseudocode: types, expressions and statements, as `parse` builds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Type:
    """A value's kind and width: "u" unsigned, "i" signed, "b" raw bits, "f" IEEE float, "bf" bfloat, "fp8", "bf8"."""

    kind: str
    bits: int


@dataclass(frozen=True)
class Number:
    value: int | float
    type: Type | None  # None: a plain literal, which takes the type of what it meets


@dataclass(frozen=True)
class Name:
    name: str


@dataclass(frozen=True)
class View:
    """The low bits of `of`, read as `type`: `of.u32`."""

    of: Expr
    type: Type


@dataclass(frozen=True)
class Cast:
    """`of` converted to `type`: `32'U(of)`."""

    of: Expr
    type: Type


@dataclass(frozen=True)
class Bit:
    """One bit, or one element of a declared array: `of[at]`."""

    of: Expr
    at: Expr


@dataclass(frozen=True)
class Slice:
    """Bits `high` down to `low` of `of`."""

    of: Expr
    high: Expr
    low: Expr


@dataclass(frozen=True)
class Unary:
    op: str
    of: Expr


@dataclass(frozen=True)
class Binary:
    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Ternary:
    condition: Expr
    yes: Expr
    no: Expr


@dataclass(frozen=True)
class Concat:
    parts: tuple[Expr, ...]  # highest first


@dataclass(frozen=True)
class Invocation:
    name: str
    arguments: tuple[Expr, ...]


Expr = Number | Name | View | Cast | Bit | Slice | Unary | Binary | Ternary | Concat | Invocation


@dataclass(frozen=True)
class Assign:
    targets: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True)
class If:
    branches: tuple[tuple[Expr, tuple[Statement, ...]], ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True)
class For:
    name: str
    first: Expr
    last: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Declare:
    name: str
    type: Type
    length: int | None


@dataclass(frozen=True)
class Define:
    """`name = lambda(parameters) (body)`; an expression body is one `Return`."""

    name: str
    parameters: tuple[str, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Return:
    value: Expr


@dataclass(frozen=True)
class Break:
    pass


Statement = Assign | If | For | Declare | Define | Return | Break
