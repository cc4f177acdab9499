"""What docs/emulation.md says of the emulator is so: the traps, the targets, and the numbers of what is missing."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from docs.documents import DOCS

from forge.amdgcn import trap
from forge.amdgcn.code.tables import FAMILIES
from forge.amdgcn.machine.dispatch import BATCH_LANES
from forge.amdgcn.missing import missing, mnemonics

pytestmark = pytest.mark.cpu

TEXT = (DOCS / "emulation.md").read_text()
COLUMNS = {"gfx942": "CDNA", "gfx1100": "RDNA 3", "gfx1201": "RDNA 4"}


def table() -> str:
    """The table of what is missing, as it must stand in the document."""
    counts = {arch: Counter(missing(arch).values()) for arch in COLUMNS}
    rows = [f"| why | {' | '.join(COLUMNS.values())} |", "|---|" + "---:|" * len(COLUMNS)]
    for why in sorted({why for found in counts.values() for why in found}):
        rows.append(f"| {why} | {' | '.join(str(c[why]) for c in counts.values())} |")
    whole = [f"{c.total()} of {len({*mnemonics(FAMILIES[arch])}):,}" for arch, c in counts.items()]
    return "\n".join([*rows, f"| together, of all that the tables know | {' | '.join(whole)} |"])


def test_the_table_of_what_is_missing_is_the_code_s():
    assert table() in TEXT, f"docs/emulation.md should have\n{table()}"


def test_every_trap_is_told_of():
    kinds = {value for name, value in vars(trap).items() if name.isupper()}
    told = set(re.findall(r"^\| ([^|]+) \| ", TEXT.split("## Traps")[1].split("## Counts")[0], re.M)) - {"trap"}
    assert told == kinds


def test_the_targets_are_those_that_have_an_emulator():
    targets = TEXT.split("## Targets")[1].split("### What is missing")[0]
    assert set(re.findall(r"gfx\w+", targets)) == set(FAMILIES)
    assert f"{BATCH_LANES:,} lanes" in TEXT
