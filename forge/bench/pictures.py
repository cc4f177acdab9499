"""What is worth a picture of rows: tokens per second over sequences and over depth, and where a step's time goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from forge.bench.breakdown import Breakdown
from forge.bench.chart import Bars, Lines, Series
from forge.bench.model import ModelRow, Test

RATE = "tokens per second"


def of_rows(rows: Sequence[ModelRow]) -> list[Lines | Bars]:
    """A chart for each kind of test that was made at several numbers of sequences, and for each of these numbers one
    where it was made at several depths.

    Where there is neither, bars of the share of the limit.
    """
    charts: list[Lines | Bars] = []
    for kind, told in (("tg", "Generation"), ("pp", "Prompts"), ("pp+tg", "Prompts and generation")):
        of_kind = [row for row in rows if _kind(row.test) == kind]
        over = _series(of_kind, lambda test: test.seqs, lambda test: replace(test, seqs=1))
        if over:
            charts.append(Lines(f"{told}: sequences at a time", "sequences", RATE, over, doubling=True))
        for seqs in dict.fromkeys(row.test.seqs for row in of_kind):
            alike = [row for row in of_kind if row.test.seqs == seqs]
            over = _series(alike, lambda test: test.depth, lambda test: replace(test, depth=0), limits=True)
            if over:
                many = f" of {seqs} sequences" if seqs > 1 else ""
                charts.append(Lines(f"{told}{many}: depth of the context", "tokens in the KV cache before", RATE, over))
    if charts:
        return charts
    bars = [(str(r.test), 1.0, r.share, f"{r.share:.0%}, {r.mean:,.1f} tokens/s ({r.limit.bound})") for r in rows]
    return [Bars("Share of the limit", "of what a copy and a product measured in the same run allow", bars)]


def of_steps(steps: Sequence[Breakdown]) -> list[Lines | Bars]:
    """Bars of each step's ops, slowest first; what the roofline needs is filled."""
    charts: list[Lines | Bars] = []
    for step in steps:
        whole = "" if step.captured is None else f"; as one captured graph {step.captured.median * 1e6:,.0f} us"
        legend = (
            f"filled: the least time by the roofline. As the engine runs it {step.eager.median * 1e6:,.0f} us{whole}"
        )
        bars = [
            (
                part.name,
                part.rate.seconds,
                part.rate.roofline,
                f"{part.rate.seconds * 1e6:,.1f} us, {part.share_of(step):.0%} ({part.launches})",
            )
            for part in step.parts
        ]
        count = "one token" if step.tokens == 1 else f"{step.tokens} tokens"
        charts.append(Bars(f"A step of {count} at a context of {step.context}", legend, bars))
    return charts


def _kind(test: Test) -> str:
    return "+".join(name for name, count in (("pp", test.prompt), ("tg", test.gen)) if count)


def _series(
    rows: Sequence[ModelRow], x: Callable[[Test], int], rest: Callable[[Test], Test], *, limits: bool = False
) -> list[Series]:
    """Rows whose tests differ in x alone as a line each, if there are several points, beside the captured graph's rate
    where that is known, and beside the limit where it is wanted."""
    groups: dict[Test, dict[int, ModelRow]] = {}
    for row in rows:
        groups.setdefault(rest(row.test), {})[x(row.test)] = row
    found: list[Series] = []
    for colour, (test, group) in enumerate((t, dict(sorted(g.items()))) for t, g in groups.items() if len(g) > 1):
        found.append(Series(str(test), [(at, row.mean) for at, row in group.items()], colour=colour))
        graph = [(at, row.graph_rate) for at, row in group.items() if row.graph_rate is not None]
        if len(graph) == len(group):
            found.append(Series(f"{test}, captured graph", graph, faint=True, colour=colour))
        if limits:
            points = [(at, row.limit.tokens_per_second) for at, row in group.items()]
            found.append(Series(f"{test}, limit", points, faint=True, colour=colour))
    return found
