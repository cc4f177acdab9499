"""`forge bench latency`: how long many requests wait for their first token, and between tokens."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forge.cli import options
from forge.cli.bench.about import about
from forge.cli.bench.counts import counts
from forge.cli.bench.report import Report
from forge.cli.terminal import loading, markdown, note
from forge.errors import UsageError

if TYPE_CHECKING:
    from forge.bench.latency import LatencyRow, Load

HELP = "what users wait for, of many requests: time to the first token, and between tokens"
COLUMNS = ("model", "backend", ">test", ">requests", ">t/s")
TIMES = {"first": "ms to first", "between": "ms between", "whole": "ms to last"}
SHOWN = ("p50", "p99")


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument(
        "-p", "--n-prompt", type=int, default=512, metavar="N", help="a prompt's tokens, by default 512"
    )
    parser.add_argument("-n", "--n-gen", type=int, default=128, metavar="N", help="tokens after it, by default 128")
    parser.add_argument("--requests", type=int, default=64, metavar="N", help="in all, by default 64")
    parser.add_argument(
        "--concurrency",
        type=counts,
        action="extend",
        metavar="N,..",
        help="requests at a time: 1,8 by default; with --rate all",
    )
    parser.add_argument("--rate", type=float, metavar="R", help="requests that arrive a second, at random moments")
    options.add_compile_flags(parser)


def run(args: argparse.Namespace) -> int:
    import forge
    from forge.bench.latency import check, measure
    from forge.gguf import GGUFFile

    loads = _loads(args)
    override = {"max_seqs": max(args.concurrency)} if args.concurrency and args.max_seqs is None else {}
    with GGUFFile.open(options.model_path(args)) as gguf:
        with loading(f"loading {gguf.path}") as progress:
            llm = forge.LLM(gguf, progress=progress, **options.compile_options(args, **override))
        with llm:
            check(llm, loads)
            told = about(llm.model, gguf)
            rows = []
            for load in loads:
                rows.append(measure(llm, load))
                note(f"{load}: {rows[-1].tokens_per_second:,.2f} tokens/s")
    Report("bench_latency", told, [row.json() for row in rows], lambda: _text(told, rows)).emit(args.output)
    return 0


def _text(told: dict[str, Any], rows: Sequence[LatencyRow]) -> str:
    columns = (*COLUMNS, *(f">{what} {name}" for what in TIMES.values() for name in SHOWN))
    table = markdown(columns, [(told["model"], told["backend"], *_cells(row)) for row in rows])
    return f"{table}\n\nTimes are those of LLM.stream_async; t/s counts the tokens that are generated."


def _loads(args: argparse.Namespace) -> list[Load]:
    from forge.bench.latency import Load

    for flag, given in (("-p", args.n_prompt), ("-n", args.n_gen), ("--requests", args.requests)):
        if given < 1:
            raise UsageError(f"{flag} {given}", remedy="at least 1")
    if args.rate is not None and not 0 < args.rate < math.inf:
        raise UsageError(f"--rate {args.rate}", remedy="requests a second: a number over 0")
    at_a_time = args.concurrency or ((1, 8) if args.rate is None else (args.requests,))
    if min(at_a_time) < 1:
        raise UsageError("--concurrency 0", remedy="at least 1")
    return [Load(args.n_prompt, args.n_gen, args.requests, n, args.rate) for n in at_a_time]


def _cells(row: LatencyRow) -> tuple[object, ...]:
    found = row.milliseconds
    times = (f"{found[what][name]:,.2f}" if what in found else "" for what in TIMES for name in SHOWN)
    return (row.load, row.load.requests, f"{row.tokens_per_second:,.2f}", *times)
