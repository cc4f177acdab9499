"""Every instruction that the compiled kernels hold, in each encoding, has a test here."""

from __future__ import annotations

import re
from functools import lru_cache

import pytest
from amdgcn.assembled import ARCHS
from amdgcn.instructions import cases, test_alu, test_control_flow, test_matrix_decode, test_memory_access
from amdgcn.instructions.oracle import LINES
from amdgcn.instructions.shuffle import CONTROLS
from amdgcn.instructions.text import Term, read_line
from kernels.harness import kind_of

from forge.lower.launch import Launch
from forge.lower.offline import compile_launch
from forge.lower.select import call_of
from forge.lower.values import type_of
from forge.target import TARGETS
from forge.verify import build, operands, serving

pytestmark = pytest.mark.compile

MODIFIERS = (
    *CONTROLS,
    "clamp",
    "op_sel",
    "op_sel_hi",
    "neg_lo",
    "neg_hi",
    "src0_sel",
    "src1_sel",
    "dst_sel",
    "fi",
    "mul",
    "div",
)


OTHERS = (test_control_flow, test_matrix_decode, test_memory_access)


def covered() -> set[tuple[str, str]]:
    """(architecture, mnemonic as printed, with +modifier for each that was seen with it)."""
    assert test_alu.TABLES
    found = {(arch, form) for arch, line in LINES for form in forms(line)}
    for module in OTHERS:
        found |= module.covered()
    return found


def forms(line: str) -> set[str]:
    """The mnemonics of a line, alone and with each of its modifiers."""
    found = set()
    for part in line.split("::"):
        mnemonic, _, rest = part.strip().partition(" ")
        words = {w.partition(":")[0] for w in re.split(r"[\s,]+", rest)}
        found |= {mnemonic} | {f"{mnemonic}+{m}" for m in MODIFIERS if m in words}
    return found


def shape(arch: str, line: str) -> tuple:
    """What tells lines of one mnemonic apart: the kinds of their operands, and their modifiers."""
    return tuple(
        (part.mnemonic, tuple(kind(term) for term in part.terms), str(sorted(part.modifiers.items())))
        for part in read_line(arch, line)
    )


def kind(term: Term) -> tuple:
    constant = "." in term.text, term.text.startswith("0x"), term.text.startswith("-")
    special = term.index if term.file == "s" and term.index >= 106 else None
    return (
        term.file, special, term.half, term.negative, term.absolute, term.extended, term.file == "const" and constant
    )  # fmt: skip


@lru_cache(None)
def compiled(arch: str) -> tuple[str, ...]:
    """The different lines in the kernels of `arch`: one case for each kernel and combination of types."""
    found: set[str] = set()
    seen = set()
    for op, case, kernel, call in serving(TARGETS[arch]):
        key = kind_of(kernel, case, call)
        if key in seen:
            continue
        seen.add(key)
        values = operands(op, case, "meta")
        call = call_of(op, tuple(type_of(v) for v in values), case.attrs, TARGETS[arch])
        for launch in build(kernel, call, values, "meta")[1]:
            if isinstance(launch, Launch):
                text = compile_launch(launch, TARGETS[arch]).assembly
                body = text[: text.index(".amdhsa_kernel")]
                found |= {line.strip() for line in re.findall(r"^\t([a-z]\w+[^;\n]*)", body, re.M)}
    return tuple(sorted(found))


@pytest.mark.parametrize("arch", ARCHS)
def test_every_instruction_of_our_kernels_is_tested(arch):
    emitted = {form: line for line in compiled(arch) for form in forms(line)}
    assert len(emitted) > 150, "the kernels hold far more than that"
    have = {form for a, form in covered() if a == arch}
    missing = sorted(f"{form}: {line}" for form, line in emitted.items() if form not in have)
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("arch", ARCHS)
def test_every_shape_of_line_in_our_kernels_does_what_its_words_say(arch):
    """A line of the kernels' own for each mnemonic with its kinds of operands and its modifiers."""
    elsewhere = {form for module in OTHERS for a, form in module.covered() if a == arch}
    lines = {shape(arch, line): line for line in compiled(arch) if line.split()[0] not in elsewhere}
    assert len(lines) > 250
    wrong = [cases.wrong(arch, line, limit=256) for line in lines.values()]
    wrong = [found for found in wrong if found]
    assert not wrong, "\n".join(line for found in wrong for line in found)
