"""Each arithmetic instruction that our kernels use does what AMD's ISA documents say, and nothing else."""

from __future__ import annotations

import importlib
from collections import Counter

import pytest
from amdgcn.instructions import cases
from amdgcn.instructions.oracle import LINES
from amdgcn.instructions.text import read_line

pytestmark = pytest.mark.compile

TABLES = ("float32", "float64", "packed", "integer", "integer16", "carry", "compare", "scalar", "lanes", "division")
for _table in TABLES:
    importlib.import_module(f"amdgcn.instructions.{_table}")


def lines():
    found, seen = [], Counter()
    for arch, line in LINES:
        name = f"{arch}-{read_line(arch, line)[0].mnemonic}"
        seen[name] += 1
        found.append(pytest.param(arch, line, id=f"{name}-{seen[name]}"))
    return found


@pytest.mark.parametrize(("arch", "line"), lines())
def test_does_what_its_words_say(arch, line):
    wrong = cases.wrong(arch, line)
    assert not wrong, "\n".join(wrong)
