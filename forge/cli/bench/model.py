"""`forge bench model`: tokens per second of a whole model, by the tests of llama-bench, or each op within its steps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge.cli import options
from forge.cli.bench import steps
from forge.cli.bench.about import about, billions, gibibytes
from forge.cli.bench.counts import counts, pair
from forge.cli.bench.report import Report
from forge.cli.terminal import loading, markdown, note
from forge.errors import UsageError

if TYPE_CHECKING:
    from forge.bench.chart import Bars, Lines
    from forge.bench.limit import Rates
    from forge.bench.model import ModelRow, Test
    from forge.compiled import CompiledModel

HELP = "tokens per second of a whole model, or each op within its steps"
COLUMNS = ("model", ">size", ">params", "backend", ">test", ">t/s", ">% of limit")
GRAPH_COLUMNS = (">graph t/s", ">% of graph")
OF_TESTS = {"-n": "n_gen", "-pg": "pg", "-d": "n_depth", "--seqs": "seqs", "--graph": "graph"}


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument(
        "-p", "--n-prompt", type=counts, action="extend", metavar="N,..", help="pp tests, by default 512; 0 for none"
    )
    parser.add_argument(
        "-n", "--n-gen", type=counts, action="extend", metavar="N,..", help="tg tests, by default 128; 0 for none"
    )
    parser.add_argument(
        "-pg", type=pair, action="append", metavar="P,N", help="a prompt and N tokens after it; may be repeated"
    )
    parser.add_argument(
        "-d", "--n-depth", type=counts, action="extend", metavar="N,..", help="tokens in the KV cache before each test"
    )
    parser.add_argument(
        "--seqs", type=counts, action="extend", metavar="N,..", help="sequences at a time, by default 1"
    )
    parser.add_argument("-r", "--repetitions", type=int, default=5, metavar="N")
    parser.add_argument("--graph", action="store_true", help="a GPU's time of a tg step as a captured graph, too")
    parser.add_argument(
        "--breakdown", action="store_true", help="time each op: prefill of -p tokens, and decode after them"
    )
    parser.add_argument("--by-shape", action="store_true", help="with --breakdown: a row for each shape of an op")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.svg",
        help="draw tokens/s over sequences and depth, or where a step's time goes",
    )
    options.add_compile_flags(parser)


def run(args: argparse.Namespace) -> int:
    from forge.gguf import GGUFFile

    _check(args)
    most = max(1, *(args.seqs or (1,)))
    with GGUFFile.open(options.model_path(args)) as gguf:
        model = options.open_compiled(args, gguf, max_seqs=most if args.max_seqs is None else args.max_seqs)
        told = about(model, gguf)
        report, charts = steps.measured(args, model, told) if args.breakdown else _measured(args, model, told)
    report.emit(args.output)
    if args.plot:
        _write(args.plot, f"{told['model']} on {told['backend']}", charts)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.repetitions < 1:
        raise UsageError(f"-r {args.repetitions}", remedy="at least one repetition")
    if args.by_shape and not args.breakdown:
        raise UsageError("--by-shape without --breakdown", remedy="it is about a breakdown's rows")
    if args.plot and (args.plot.suffix != ".svg" or not args.plot.parent.is_dir()):
        raise UsageError(
            f"--plot {args.plot} cannot be written", remedy="a file that ends in .svg, in a folder there is"
        )
    for flag, name in OF_TESTS.items():
        if getattr(args, name) and args.breakdown:
            raise UsageError(f"{flag} with --breakdown", remedy="it is of tests; a breakdown is of steps at -p tokens")


def _tests(args: argparse.Namespace) -> list[Test]:
    """Depth by depth, and of these by the sequences at a time: so what is in the KV cache serves the next test."""
    from forge.bench.model import Test

    def given(numbers: Sequence[int] | None, default: int) -> Sequence[int]:
        return (default,) if numbers is None else numbers

    pairs = [(n, 0) for n in given(args.n_prompt, 512) if n] + [(0, n) for n in given(args.n_gen, 128) if n]
    pairs += args.pg or []
    tests = [
        Test(prompt, gen, depth, seqs)
        for depth in given(args.n_depth, 0)
        for seqs in given(args.seqs, 1)
        if seqs
        for prompt, gen in pairs
    ]
    if not tests:
        raise UsageError("there is nothing to measure", remedy="give -p or -n a number of tokens")
    return tests


def _write(path: Path, title: str, charts: Sequence[Lines | Bars]) -> None:
    from forge.bench.chart import document

    try:
        path.write_text(document(title, charts), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--plot {path} cannot be written: {error}", remedy="a file that may be written") from error
    note(f"drawn: {path}")


def _measured(
    args: argparse.Namespace, model: CompiledModel, told: dict[str, Any]
) -> tuple[Report, Sequence[Lines | Bars]]:
    from forge.bench.limit import rates_of
    from forge.bench.model import check, measure
    from forge.bench.pictures import of_rows

    tests = _tests(args)
    check(model, tests, graph=args.graph)
    rates = rates_of(model)
    note(f"measured: {rates}")
    with loading(f"loading {told['model']}") as progress:
        model.load(progress)
    rows: list[ModelRow] = []
    for row in measure(model, tests, args.repetitions, rates, graph=args.graph):
        note(f"{row.test}: {row.mean:,.2f} tokens/s, {row.share:.1%} of the limit")
        rows.append(row)
    measured = [row.json() for row in rows]
    return Report("bench_model", told | rates.json(), measured, lambda: _text(told, rates, rows)), of_rows(rows)


def _text(told: dict[str, Any], rates: Rates, rows: Sequence[ModelRow]) -> str:
    fixed = (told["model"], gibibytes(told["bytes"]), billions(told["parameters"]), told["backend"])
    graph = any(row.graph for row in rows)
    shown = [
        (
            *fixed,
            row.test,
            f"{row.mean:.2f} ± {row.stddev:.2f}",
            f"{row.share:.1%} {row.limit.bound}",
            *_graph_cells(row),
        )
        for row in rows
    ]
    width = len(COLUMNS) + (len(GRAPH_COLUMNS) if graph else 0)
    table = markdown((*COLUMNS, *GRAPH_COLUMNS)[:width], [line[:width] for line in shown])
    return f"{table}\n\nMeasured in this run: {rates}. The limit is what these allow."


def _graph_cells(row: ModelRow) -> tuple[str, str]:
    if row.graph_rate is None:
        return ("", "")
    return (f"{row.graph_rate:.2f}", f"{row.mean / row.graph_rate:.1%}")
