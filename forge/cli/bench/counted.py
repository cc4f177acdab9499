"""The table of `forge bench --emulate`: what the code of ops does, a wave and a weight, a key or an element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from forge.cli.bench.report import Report
from forge.cli.terminal import markdown

if TYPE_CHECKING:
    from forge.bench.emulated import CountedRow
    from forge.graph.op import Op

NO_TIMES = "These are facts about the code, the same on every run. They are no times, and no time follows from them."
WAVE = {  # columns of instructions a wave, and the kinds in each
    "VALU": ("valu", "dual"),
    "matrix": ("matrix",),
    "memory": ("load", "store", "atomic"),
    "LDS": ("lds", "crossbar"),
    "scalar": ("salu", "scalar load", "branch"),
    "wait": ("wait", "barrier", "cache", "hint"),
}
UNIT = (">bytes", ">VALU lanes", ">multiply-adds", "a")


def report(ops: Mapping[str, Op], arch: str) -> Report:
    """Count `ops` on `arch`."""
    from forge.bench.emulated import count
    from forge.lower.devices import named

    rows = list(count(ops, named(arch)))
    about = {"target": arch, "about": NO_TIMES}
    return Report("bench_counts", about, [row.json() for row in rows], lambda: _text(rows))


def _text(rows: Sequence[CountedRow]) -> str:
    columns = ("kernel", "case", ">waves", *(f">{name}" for name in WAVE), ">conflicts", ">masked", ">idle", *UNIT)
    table = markdown((*columns, ">emulator s"), [_cells(row) for row in rows])
    return f"{table}\n\nInstructions and LDS conflict cycles are a wave's; bytes are those loaded. {NO_TIMES}"


def _cells(row: CountedRow) -> tuple[object, ...]:
    counts, waves = row.counters, row.counters.waves
    executed = (sum(counts.instructions[kind] for kind in kinds) / waves for kinds in WAVE.values())
    lanes = (f"{counts.conflicts / waves:,.1f}", f"{counts.masked:.1%}", f"{counts.idle:.1%}")
    unit = (f"{row.loaded:,.3f}", f"{row.valu:,.2f}", f"{row.multiply_adds:,.0f}", row.unit)
    return (row.kernel, row.case, waves, *(f"{n:,.1f}" for n in executed), *lanes, *unit, f"{row.seconds:.2f}")
