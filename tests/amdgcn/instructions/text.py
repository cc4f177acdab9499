"""A line of assembly, read as text: what the tests know of an instruction does not come from its encoding."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SUFFIX = re.compile(r"_(e32|e64|dpp|sdwa|e64_dpp)$")
NAMED = {"vcc": 106, "vcc_lo": 106, "vcc_hi": 107, "exec": 126, "exec_lo": 126, "exec_hi": 127}


@dataclass(frozen=True)
class Term:
    """A source or a destination as written: a register (file v, a or s), a constant (const) or nothing (null)."""

    file: str
    index: int = 0
    half: int | None = None  # .l and .h
    text: str = ""
    negative: bool = False
    absolute: bool = False
    extended: bool = False


@dataclass(frozen=True)
class Part:
    """One instruction: its mnemonic as printed, its name without the encoding's suffix, terms and modifiers."""

    mnemonic: str
    name: str
    terms: tuple[Term, ...]
    modifiers: dict[str, list[int] | int | str] = field(default_factory=dict)

    def bits(self, name: str, default: int, count: int) -> list[int]:
        """A list modifier, such as op_sel, filled up to `count`."""
        given = self.modifiers.get(name, [])
        assert isinstance(given, list)
        return (given + [default] * count)[:count]


def read_line(arch: str, line: str) -> tuple[Part, ...]:
    """The instruction of a line, or the two of a dual one."""
    return tuple(_part(arch, text.strip()) for text in line.split("::"))


def _part(arch: str, text: str) -> Part:
    mnemonic, _, rest = text.partition(" ")
    terms, modifiers = [], {}
    for piece in _split(rest):
        first, *others = piece.split()
        terms.append(_term(arch, first))
        for word in others:
            key, _, value = word.partition(":")
            numbers = [int(x, 0) for x in re.findall(r"-?\b(?:0x[0-9a-f]+|\d+)\b", value)]
            modifiers[key] = numbers if value.startswith("[") else numbers[0] if numbers else value or 1
    name = SUFFIX.sub("", mnemonic).replace("v_dual_", "v_")
    if mnemonic == "v_dual_cndmask_b32":  # whose condition the text leaves out
        terms.append(_term(arch, "vcc_lo"))
    return Part(mnemonic, name, tuple(terms), modifiers)


def _split(text: str) -> list[str]:
    """The comma-separated pieces, brackets kept whole."""
    return [p.strip() for p in re.split(r",(?![^\[]*\])(?![^(]*\))", text) if p.strip()]


def _term(arch: str, text: str) -> Term:
    negative = absolute = extended = False
    body = text
    if found := re.fullmatch(r"neg\((.*)\)", body):
        negative, body = True, found[1]
    elif re.match(r"-[|a-z]", body):
        negative, body = True, body[1:]
    if found := re.fullmatch(r"\|(.*)\|", body):
        absolute, body = True, found[1]
    if found := re.fullmatch(r"sext\((.*)\)", body):
        extended, body = True, found[1]
    kind, index, half = "const", 0, None
    if body in ("null", "off"):
        kind = "null"
    elif body in NAMED:
        kind, index = "s", NAMED[body]
    elif body == "m0":
        kind, index = "s", 124 if arch == "gfx942" else 125
    elif found := re.fullmatch(r"(ttmp|[vas])\[?(\d+)(?::\d+\])?(\.[lh])?", body):
        kind, index = found[1], int(found[2])
        half = None if found[3] is None else int(found[3] == ".h")
        if kind == "ttmp":
            kind, index = "s", 108 + index
    return Term(kind, index, half, body, negative, absolute, extended)
