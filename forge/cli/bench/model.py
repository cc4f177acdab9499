"""`forge bench model`: tokens per second of a whole model, by the tests of llama-bench, or each op within its steps."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from forge.cli import options
from forge.cli.bench import steps
from forge.cli.bench.about import about, billions, gibibytes
from forge.cli.bench.counts import counts
from forge.cli.bench.report import Report
from forge.cli.terminal import loading, markdown, note
from forge.errors import UsageError

if TYPE_CHECKING:
    from forge.bench.model import ModelRow
    from forge.compiled import CompiledModel

HELP = "tokens per second of a whole model, or each op within its steps"
COLUMNS = ("model", ">size", ">params", "backend", ">test", ">t/s")


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("-p", "--n-prompt", type=counts, default=(512,), metavar="N,..", help="pp tests; 0 for none")
    parser.add_argument("-n", "--n-gen", type=counts, metavar="N,..", help="tg tests, by default 128; 0 for none")
    parser.add_argument("--seqs", type=counts, metavar="N,..", help="requests at a time in tg tests, by default 1")
    parser.add_argument("-r", "--repetitions", type=int, default=5, metavar="N")
    parser.add_argument(
        "--breakdown", action="store_true", help="time each op: prefill of -p tokens, and decode after them"
    )
    parser.add_argument("--by-shape", action="store_true", help="with --breakdown: a row for each shape of an op")
    options.add_compile_flags(parser)


def run(args: argparse.Namespace) -> int:
    from forge.gguf import GGUFFile

    _check(args)
    with GGUFFile.open(options.model_path(args)) as gguf:
        most = max(args.seqs or (1,)) or 1
        model = options.open_compiled(args, gguf, max_seqs=most if args.max_seqs is None else args.max_seqs)
        told = about(model, gguf)
        report = steps.measured(args, model, told)[0] if args.breakdown else _measured(args, model, told)
    report.emit(args.output)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.repetitions < 1:
        raise UsageError(f"-r {args.repetitions}", remedy="at least one repetition")
    if args.by_shape and not args.breakdown:
        raise UsageError("--by-shape without --breakdown", remedy="it is about a breakdown's rows")
    for flag, given in (("-n", args.n_gen), ("--seqs", args.seqs)):
        if given is not None and args.breakdown:
            raise UsageError(
                f"{flag} with --breakdown", remedy="it is of tg tests; a breakdown is of steps at -p tokens"
            )


def _measured(args: argparse.Namespace, model: CompiledModel, told: dict[str, Any]) -> Report:
    from forge.bench.model import Test, check, measure

    tests = [Test("pp", n) for n in args.n_prompt if n]
    decoded, at_a_time = args.n_gen or (128,), args.seqs or (1,)
    tests += [Test("tg", n, seqs) for n in decoded if n for seqs in at_a_time if seqs]
    if not tests:
        raise UsageError("there is nothing to measure", remedy="give -p or -n a number of tokens")
    check(model, tests)
    with loading(f"loading {told['model']}") as progress:
        model.load(progress)
    rows: list[ModelRow] = []
    for row in measure(model, tests, args.repetitions):
        note(f"{row.test}: {row.mean:,.2f} tokens/s")
        rows.append(row)
    fixed = (told["model"], gibibytes(told["bytes"]), billions(told["parameters"]), told["backend"])
    shown = [(*fixed, row.test, f"{row.mean:.2f} ± {row.stddev:.2f}") for row in rows]
    return Report("bench_model", told, [row.json() for row in rows], lambda: markdown(COLUMNS, shown))
