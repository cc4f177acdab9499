"""`forge bench ops`: single ops beside the roofline, at other configurations too, or counted by emulation."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from forge.cli.bench import counted
from forge.cli.bench.report import Report
from forge.cli.terminal import markdown, note
from forge.errors import UsageError

if TYPE_CHECKING:
    from forge.bench.roofline import Rate
    from forge.graph.op import Op
    from forge.lower.device import Device

HELP = "single ops on their largest cases"
RATES = (">us", ">GB/s", ">TFLOP/s", ">% of roofline")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", help='"auto", "cpu", "gpu" or "gpu:1"')
    parser.add_argument("--sweep", action="store_true", help="at each configuration that differs in one choice, too")


def add_choice(parser: argparse.ArgumentParser, default: Any) -> None:
    """The flags that stand before WHAT as well as after it."""
    parser.add_argument("--op", action="append", metavar="NAME", default=default, help="only this op; may be repeated")
    parser.add_argument(
        "--emulate", metavar="ARCH", default=default, help="count what the code for this AMD architecture does"
    )


def run(args: argparse.Namespace) -> int:
    from forge.lower.devices import find

    if args.emulate:
        if getattr(args, "target", None):
            raise UsageError("--target with --emulate", remedy="--emulate names the target")
        if getattr(args, "sweep", False):
            raise UsageError("--sweep with --emulate", remedy="a sweep is of times; what is emulated is counted")
        counted.report(_chosen(args), args.emulate).emit(args.output)
        return 0
    device = find(args.target or "auto")
    (_sweep if args.sweep else _ops)(_chosen(args), device).emit(args.output)
    return 0


def rate_cells(rate: Rate) -> tuple[str, ...]:
    """A rate in the columns RATES."""
    roofline = f"{rate.roofline:.1%} {rate.bound}"
    return (f"{rate.seconds * 1e6:,.1f}", f"{rate.gbps:,.1f}", f"{rate.tflops:,.3f}", roofline)


def _ops(ops: dict[str, Op], device: Device) -> Report:
    from forge.bench.ops import measure

    rows = list(measure(ops, device))
    columns = ("op", "operands", "kernel", *RATES, ">spread")
    shown = [(r.op, r.types, r.kernel.split("[")[0], *rate_cells(r.rate), f"{r.sample.spread:.0%}") for r in rows]
    about = {"target": str(device.target)}
    return Report("bench_ops", about, [row.json() for row in rows], lambda: markdown(columns, shown))


def _sweep(ops: dict[str, Op], device: Device) -> Report:
    """A row for each configuration, those of a call together: the one that is used first."""
    from forge.bench.sweep import neighbours

    rows, shown = [], []
    for row in neighbours(ops, device):
        note(str(row))
        rows.append(row)
        config = " ".join(f"{k}={v}" for k, v in row.config.items()) + (f" ({row.origin})" if row.origin else "")
        types = ", ".join(str(t) for t in row.call.types if t is not None)
        measured = (
            (*rate_cells(row.rate), f"{row.sample.spread:.0%}") if row.rate and row.sample else (row.failure, *[""] * 4)
        )
        shown.append((row.kernel.id, types, config, *measured))
    columns = ("kernel", "operands", "config", *RATES, ">spread")
    about = {"target": str(device.target)}
    return Report("bench_sweep", about, [row.json() for row in rows], lambda: markdown(columns, shown))


def _chosen(args: argparse.Namespace) -> dict[str, Op]:
    """The ops that --op names, or all of them."""
    from forge.kernels import load

    ops = load()
    for name in args.op or ():
        if name not in ops:
            raise UsageError(f"no op is called {name!r}", remedy=f"one of: {', '.join(ops)}")
    return {name: ops[name] for name in args.op or ops}
