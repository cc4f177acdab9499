"""From a family's packaged pseudocode to `Meaning`s."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from forge.amdgcn.numbers import arithmetic, conversions
from forge.amdgcn.pseudocode.clamp import clamped
from forge.amdgcn.pseudocode.emit import Emitter
from forge.amdgcn.pseudocode.meaning import Meaning, Output
from forge.amdgcn.pseudocode.parse import parse
from forge.amdgcn.pseudocode.syntax import Bit, Name, Number, Slice, Statement, View
from forge.errors import MissingDependencyError, UnsupportedError

FAMILIES = ("cdna", "rdna3", "rdna4")
_ENCODINGS = ("VOP", "SOP")


@cache
def texts(family: str) -> Mapping[str, str]:
    """Mnemonic in lower case, without _e32 or _e64 -> pseudocode, of vector and scalar arithmetic encodings."""
    if family not in FAMILIES:
        raise UnsupportedError(f"no pseudocode of family {family!r}", remedy=f"one of {', '.join(FAMILIES)}")
    try:
        packaged = importlib.import_module(f"tinygrad.runtime.autogen.amd.{family}.str_pcode").PCODE
    except ImportError as error:
        raise MissingDependencyError(
            "the emulator takes AMD's pseudocode from tinygrad, which is not installed",
            remedy="pip install 'forge-triton[emulate]'",
        ) from error
    found: dict[str, str] = {}
    for opcode, text in packaged.items():
        if type(opcode).__name__.startswith(_ENCODINGS):
            found.setdefault(opcode.name.lower().removesuffix("_e32").removesuffix("_e64"), text)
    return found


def translate(family: str, name: str, text: str, *, ocp: bool, clamp: bool = False) -> Meaning:
    """The meaning of one instruction by its text; `UnsupportedError` says what in it has no translation."""
    body = clamped(parse(text)) if clamp else parse(text)
    widths = _widths(body)
    emitter = Emitter(widths, _Instructions(family))
    source, inputs, outputs = emitter.function(name, body)
    scope: dict[str, Any] = {"np": np, "OCP": ocp}
    for module in (arithmetic, conversions):
        scope.update({key: value for key, value in vars(module).items() if not key.startswith("_")})
    exec(compile(source, f"<pseudocode of {name}, {family}>", "exec"), scope)
    sizes = tuple(64 if i in ("VCC", "EXEC") else _register(i, widths, outputs) for i in inputs)
    return Meaning(name, inputs, outputs, scope[name], source, sizes)


def _register(name: str, widths: Mapping[str, int], outputs: tuple[Output, ...]) -> int:
    have = widths.get(name, 32)
    if name == "D0":
        have = max([have, *(output.bits for output in outputs if output.name == "D0")])
    return 64 if have > 32 else 32


class _Instructions(Mapping[str, tuple[Statement, ...]]):
    """The statements of a family's instructions by name: pseudocode may call another instruction."""

    def __init__(self, family: str) -> None:
        self._texts = texts(family)

    def __getitem__(self, name: str) -> tuple[Statement, ...]:
        return parse(self._texts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _widths(body: tuple[Statement, ...]) -> dict[str, int]:
    """The widest view or bit of each register that the text names."""
    found: dict[str, int] = {}

    def see(node: object) -> None:
        name, bits = None, 32
        if isinstance(node, View) and isinstance(node.of, Name):
            name, bits = node.of.name, node.type.bits
        elif isinstance(node, Slice) and isinstance(node.of, Name) and isinstance(node.high, Number):
            name, bits = node.of.name, int(node.high.value) + 1
        elif isinstance(node, Bit) and isinstance(node.at, Name) and node.at.name == "laneId":
            return
        if name in ("S0", "S1", "S2", "D0"):
            found[name] = max(found.get(name, 32), bits)
        if dataclasses.is_dataclass(node) and not isinstance(node, type):
            for field in dataclasses.fields(node):
                see(getattr(node, field.name))
        elif isinstance(node, tuple):
            for item in node:
                see(item)

    see(body)
    return found
