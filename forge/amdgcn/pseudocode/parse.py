"""AMD's pseudocode as text -> a small syntax tree.

The language is that of the pseudocode in AMD's ISA documents: C's operators (plus `<>`, less or greater, and `**`),
casts and sized literals written `16'U(x)` and `16'4`, bit slices `x[hi : lo]` and `x[lo +: width]`, concatenations
`{ high, low }`, typed views `x.f32`, `if/elsif/else/endif`, `for i in a : b do ... endfor` and one-line functions
`NAME = lambda(a, b) (...)`. `//` starts a comment. A statement may end in `;`.
"""

from __future__ import annotations

import re

from forge.amdgcn.pseudocode.syntax import (
    Assign,
    Binary,
    Bit,
    Break,
    Cast,
    Concat,
    Declare,
    Define,
    Expr,
    For,
    If,
    Invocation,
    Name,
    Number,
    Return,
    Slice,
    Statement,
    Ternary,
    Type,
    Unary,
    View,
)
from forge.errors import UnsupportedError

_TOKEN = re.compile(
    r"\s+|(?P<cast>\d+'(?:BF|[UIFB])\b)|(?P<sized>\d+'(?:0x[0-9a-fA-F]+|\d+\.\d+|\d+)U?)"
    r"|(?P<hex>0x[0-9a-fA-F]+(?:ULL|LL|U)?)|(?P<float>\d+\.\d+F?)|(?P<int>\d+(?:ULL|LL|U|L)?)"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<op>\+:|\+=|-=|\*\*|<<|>>|<=|>=|==|!=|<>|&&|\|\||[-+*/%&|^~!<>=?:;,.()\[\]{}])"
)
_TYPE = re.compile(r"(bf8|fp8)|(u|i|f|b|bf)(\d+)")
_CAST_KINDS = {"U": "u", "I": "i", "F": "f", "B": "b", "BF": "bf"}
_LITERAL_TYPES = {"U": Type("u", 32), "LL": Type("i", 64), "ULL": Type("u", 64)}
_LEVELS = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!=", "<>"), ("<", ">", "<=", ">="), ("<<", ">>"),
    ("+", "-"), ("*", "/", "%"), ("**",),
)  # fmt: skip


def parse(text: str) -> tuple[Statement, ...]:
    """The statements of `text`; `UnsupportedError` where it is not this language (some entries are English)."""
    text = re.sub(r"//[^\n]*", "", text)
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise UnsupportedError(f"pseudocode has a character outside its language: {text[at : at + 20]!r}")
        if match.lastgroup is not None:
            tokens.append((match.lastgroup, match.group()))
        at = match.end()
    parser = _Parser(tokens)
    body = parser.statements(())
    parser.expect_end()
    return body


class _Parser:
    """Recursive descent over a token list; `at` is the next token."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens, self.at = tokens, 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, wanted: str | None = None) -> str:
        text = self.peek()
        if self.at >= len(self.tokens) or (wanted is not None and text != wanted):
            near = " ".join(token for _, token in self.tokens[max(self.at - 4, 0) : self.at + 3])
            raise UnsupportedError(f"pseudocode does not parse: {text!r} where {wanted!r} belongs, near {near!r}")
        self.at += 1
        return text

    def accept(self, *wanted: str) -> str | None:
        if self.peek() in wanted and self.at < len(self.tokens):
            return self.take()
        return None

    def expect_end(self) -> None:
        if self.at < len(self.tokens):
            self.take("end of text")

    def statements(self, ends: tuple[str, ...]) -> tuple[Statement, ...]:
        found: list[Statement] = []
        while self.at < len(self.tokens) and self.peek() not in ends:
            if not self.accept(";"):
                found.append(self.statement())
        return tuple(found)

    def statement(self) -> Statement:
        if self.accept("if"):
            return self.branches()
        if self.accept("for"):
            name = self.take()
            self.take("in")
            first = self.expression()
            self.take(":")
            last = self.expression()
            self.take("do")
            body = self.statements(("endfor",))
            self.take("endfor")
            return For(name, first, last, body)
        if self.accept("declare"):
            name = self.take()
            self.take(":")
            declared = self.cast_type(self.take())
            length = None
            if self.accept("["):
                length = int(self.take())
                self.take("]")
            return Declare(name, declared, length)
        if self.accept("return"):
            return Return(self.expression())
        if self.accept("break"):
            return Break()
        return self.assignment()

    def branches(self) -> If:
        branches = []
        while True:
            condition = self.expression()
            self.take("then")
            branches.append((condition, self.statements(("elsif", "else", "endif"))))
            if not self.accept("elsif"):
                break
        otherwise = self.statements(("endif",)) if self.accept("else") else ()
        self.take("endif")
        return If(tuple(branches), otherwise)

    def assignment(self) -> Statement:
        first = self.postfix()
        op = self.accept("+=", "-=")
        if op:
            return Assign((first,), Binary(op[0], first, self.expression()))
        self.take("=")
        if isinstance(first, Name) and self.accept("lambda"):
            return self.definition(first.name)
        targets, value = [first], self.expression()
        while self.accept("="):  # a = b = value
            targets.append(value)
            value = self.expression()
        return Assign(tuple(targets), value)

    def definition(self, name: str) -> Define:
        self.take("(")
        parameters = [self.take()]
        while self.accept(","):
            parameters.append(self.take())
        self.take(")")
        self.take("(")
        of_statements = self.peek() in ("if", "declare", "return")
        body = self.statements((")",)) if of_statements else (Return(self.expression()),)
        self.take(")")
        return Define(name, tuple(parameters), body)

    def expression(self) -> Expr:
        condition = self.binary(0)
        if not self.accept("?"):
            return condition
        yes = self.expression()
        self.take(":")
        return Ternary(condition, yes, self.expression())

    def binary(self, level: int) -> Expr:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while op := self.accept(*_LEVELS[level]):
            left = Binary(op, left, self.binary(level + 1))
        return left

    def unary(self) -> Expr:
        op = self.accept("-", "+", "!", "~")
        if op is None:
            return self.postfix()
        of = self.unary()
        return of if op == "+" else Unary(op, of)

    def postfix(self) -> Expr:
        of = self.primary()
        while True:
            if self.accept("."):
                member = self.take()
                match = _TYPE.fullmatch(member)
                if match is not None:
                    of = View(of, self.view_type(match))
                elif isinstance(of, Name):
                    of = Name(f"{of.name}.{member}")
                else:
                    raise UnsupportedError(f"pseudocode has an unknown member .{member}")
            elif self.accept("["):
                at = self.expression()
                if self.accept(":"):
                    of = Slice(of, at, self.expression())
                elif self.accept("+:"):
                    of = Slice(of, Binary("-", Binary("+", at, self.expression()), Number(1, None)), at)
                else:
                    of = Bit(of, at)
                self.take("]")
            else:
                return of

    @staticmethod
    def view_type(match: re.Match[str]) -> Type:
        return Type(match.group(1), 8) if match.group(1) else Type(match.group(2), int(match.group(3)))

    @staticmethod
    def cast_type(token: str) -> Type:
        bits, _, kind = token.partition("'")
        if kind not in _CAST_KINDS:
            raise UnsupportedError(f"pseudocode has an unknown type {token!r}")
        return Type(_CAST_KINDS[kind], int(bits))

    def listed(self, end: str) -> tuple[Expr, ...]:
        found: list[Expr] = []
        while not self.accept(end):
            found.append(self.expression())
            if self.peek() != end:
                self.take(",")
        return tuple(found)

    def primary(self) -> Expr:
        group = self.tokens[self.at][0] if self.at < len(self.tokens) else "end"
        token = self.take()
        if group == "cast":
            self.take("(")
            of = self.expression()
            self.take(")")
            return Cast(of, self.cast_type(token))
        if group == "sized":
            bits, _, digits = token.rstrip("U").partition("'")
            if "." in digits:
                return Number(float(digits), Type("f", int(bits)))
            return Number(int(digits, 0), Type("u" if token.endswith("U") else "b", int(bits)))
        if group in ("hex", "int"):
            digits = token.rstrip("UL")
            return Number(int(digits, 0), _LITERAL_TYPES.get(token[len(digits) :]))
        if group == "float":
            return Number(float(token.rstrip("F")), Type("f", 32) if token.endswith("F") else None)
        if group == "word":
            return Invocation(token, self.listed(")")) if self.accept("(") else Name(token)
        if token == "(":
            of = self.expression()
            self.take(")")
            return of
        if token == "{":
            return Concat(self.listed("}"))
        raise UnsupportedError(f"pseudocode does not parse at {token!r}")
