"""Every instruction that the compiled kernels hold, in each encoding, has a test here."""

from __future__ import annotations

import re

import pytest
from amdgcn.assembled import ARCHS
from amdgcn.instructions import test_alu, test_control_flow, test_matrix_decode, test_memory_access
from amdgcn.instructions.oracle import LINES
from amdgcn.instructions.shuffle import CONTROLS

from forge.kernels.launch import Launch
from forge.lower.offline import compile_launch
from forge.lower.operands import type_of
from forge.lower.select import call_of
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


def covered() -> set[tuple[str, str]]:
    """(architecture, mnemonic as printed, with +modifier for each that was seen with it)."""
    assert test_alu.TABLES
    found = {(arch, form) for arch, line in LINES for form in forms(line)}
    for module in (test_control_flow, test_matrix_decode, test_memory_access):
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


def compiled(arch: str) -> dict[str, str]:
    """Each form in the kernels of `arch` with a line that has it: one case for each kernel and combination of types."""
    found, seen = {}, set()
    for op, case, kernel, call in serving(TARGETS[arch]):
        key = (kernel.id, tuple(t and t.dtype.name for t in call.types), tuple(sorted(case.attrs.items())))
        if key in seen:
            continue
        seen.add(key)
        values = operands(op, case, "meta")
        call = call_of(op, tuple(type_of(v) for v in values), case.attrs, TARGETS[arch])
        for launch in build(kernel, call, values, "meta")[1]:
            if isinstance(launch, Launch):
                text = compile_launch(launch, TARGETS[arch]).assembly
                body = text[: text.index(".amdhsa_kernel")]
                for line in {m.strip() for m in re.findall(r"^\t([a-z]\w+[^;\n]*)", body, re.M)}:
                    for form in forms(line):
                        found.setdefault(form, line)
    return found


@pytest.mark.parametrize("arch", ARCHS)
def test_every_instruction_of_our_kernels_is_tested(arch):
    emitted = compiled(arch)
    assert len(emitted) > 150, "the kernels hold far more than that"
    have = {form for a, form in covered() if a == arch}
    missing = {form: line for form, line in emitted.items() if form not in have}
    assert not missing, "\n".join(f"{form}: {line}" for form, line in sorted(missing.items()))
