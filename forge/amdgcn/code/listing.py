"""The assembler's text of a kernel as a list of instructions, each with the line of source it comes from.

The text is what the compiler prints beside the binary (`asm["amdgcn"]`). It is the second opinion on every decoded
instruction, and the way from a program counter to the Triton source. Source: LLVM's AMDGPUAsmParser and the GNU
assembler's `.file`, `.loc` and `.p2align`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from forge.errors import FileFormatError

_FILE = re.compile(r'\.file\s+(\d+)\s+"([^"]*)"(?:\s+"([^"]*)")?')
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)")
_ALIGN = re.compile(r"\.p2align\s+(\d+)")
_FUNCTION = re.compile(r"\.type\s+(\S+),@function")
_LABEL = re.compile(r"^[\w.$]+:\s*")
_SILENT = (".loc", ".file", ".cfi_", ".globl", ".type", ".size", ".set", ".text")  # directives that emit no code


@dataclass(frozen=True)
class Line:
    """An instruction, or an alignment mark whose mnemonic is ".p2align N": padding up to a multiple of 2**N bytes.

    `mnemonic` is as printed, with its suffix (_e32, _dpp); two instructions issued as one are "first::second". `text`
    is the whole instruction with single spaces; `source` is "file.py:123", or "" where the compiler says no line.
    """

    mnemonic: str
    text: str
    source: str


def functions(assembly: str) -> tuple[tuple[str, int], ...]:
    """(name, alignment in bytes) of every function in the order of the code: the kernel, and those not inlined."""
    found, boundary = [], 1
    for raw in assembly.splitlines():
        if align := _ALIGN.match(raw.strip()):
            boundary = 1 << int(align[1])
        elif function := _FUNCTION.match(raw.strip()):
            found.append((function[1], boundary))
    return tuple(found)


def listing(assembly: str, kernel: str) -> tuple[Line, ...]:
    """The instructions of one kernel in order. Raises FileFormatError if it is not there whole or holds data."""
    files: dict[str, str] = {}
    source, inside, elsewhere = "", False, False
    found: list[Line] = []
    for number, raw in enumerate(assembly.splitlines(), 1):
        line = raw.split(";", 1)[0].strip()
        if file := _FILE.match(line):
            files[file[1]] = PurePosixPath(file[3] or file[2]).name
        if not inside:
            inside = line == f"{kernel}:"
            continue
        if re.match(r"\.Lfunc_end\d+:", line):
            return tuple(found)
        line = _LABEL.sub("", line)
        if line.startswith((".section", ".text")):  # the descriptor may stand before the function's end
            elsewhere = line.startswith(".section")
        if elsewhere:
            continue
        if loc := _LOC.match(line):
            if loc[1] not in files:
                raise FileFormatError(f"the listing names no file {loc[1]}", where=f"line {number}")
            source = f"{files[loc[1]]}:{loc[2]}" if loc[2] != "0" else ""
        elif align := _ALIGN.match(line):
            found.append(Line(f".p2align {align[1]}", " ".join(line.split()), source))
        elif line.startswith(".") and not line.startswith(_SILENT):
            raise FileFormatError(f"{kernel} has a directive among its instructions: {line}", where=f"line {number}")
        elif line and not line.startswith("."):
            parts = (part.split(maxsplit=1)[0] for part in line.split(" :: "))
            found.append(Line("::".join(parts), " ".join(line.split()), source))
    raise FileFormatError(f"the listing has no whole function {kernel}", where=f"{assembly.count(chr(10))} lines")
