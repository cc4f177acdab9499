"""Hold every kernel against its op's oracle: on the device at hand, or in the code that an AMD GPU would execute.

forge verify                               the kernels of the device at hand, at every case
forge verify --emulate gfx1100             those of gfx1100: their machine code, executed on this CPU
forge verify --emulate gfx942 --op linear --waits --races --cases

With --emulate each kernel is compiled as for a launch and its code object run instruction by instruction. That shows
that the code which ships computes the right numbers; of speed, caches and the silicon itself it shows nothing.
Exits with 1 if a kernel is wrong or its code traps; the others are run all the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forge.cli.terminal import emit, emit_json, markdown, note
from forge.errors import ForgeError, UsageError

if TYPE_CHECKING:
    from forge.lower.device import Device

SUMMARY = "every kernel against its oracle, on a device or emulated"


def configure(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--target", default="auto", help='"auto", "cpu", "gpu" or "gpu:1": run on this device')
    where.add_argument("--emulate", metavar="ARCH", help="execute the code for this AMD architecture on the CPU")
    parser.add_argument("--op", action="append", metavar="NAME", help="only this op; may be repeated")
    parser.add_argument("--all", action="store_true", help="with --emulate: the large cases too")
    parser.add_argument("--cases", action="store_true", help="a row for each case, not for each kernel")
    parser.add_argument("--waits", action="store_true", help="with --emulate: trap on a load used before its wait")
    parser.add_argument("--races", action="store_true", help="with --emulate: trap on races in LDS")
    parser.add_argument("-o", "--output", choices=("md", "json"), default="md")


@dataclass
class KernelRow:
    """What came of a kernel: on one case, or of all its cases together."""

    kernel: str
    case: str
    cases: int
    error: float
    launches: int
    instructions: int
    seconds: float
    failure: str = ""


def run(args: argparse.Namespace) -> int:
    from forge.kernels import load

    for name in args.op or ():
        if name not in load():
            raise UsageError(f"no op is called {name!r}", remedy=f"one of: {', '.join(load())}")
    if not args.emulate and (args.waits or args.races or args.all):
        raise UsageError("--waits, --races and --all are for emulated code", remedy="give --emulate ARCH")
    rows: list[KernelRow] = []
    for row in _rows(args):
        if row.failure:
            note(f"{row.kernel} on {row.case}: {row.failure}")
        rows.append(row)
    if not args.cases:
        rows = _by_kernel(rows)
    if args.output == "json":
        emit_json({"target": args.emulate or args.target, "rows": [vars(r) for r in rows]})
    else:
        emit(_table(rows, args))
    return int(any(r.failure for r in rows))


def _rows(args: argparse.Namespace) -> Iterator[KernelRow]:
    from forge.verify import check, serving

    device = _device(args)
    where, tensors = device.target, str(device.torch_device)
    for op, case, kernel, _ in serving(where, every=not args.emulate or args.all):
        if (args.op and op.name not in args.op) or (args.emulate and not (case.small or args.all)):
            continue
        begin = time.perf_counter()
        row = KernelRow(kernel.id, case.name, 1, 0.0, 0, 0, 0.0)
        try:
            outcome = check(op, case, kernel, where, tensors, lambda task: device.prepare(task)())
        except ForgeError as error:
            row.failure = str(error)
        else:
            done = [s for s in outcome.tasks if hasattr(s, "instructions")]
            if args.emulate and not done:
                continue  # a kernel of torch's own: there is no code of ours to emulate
            row.error, row.launches = outcome.error, len(outcome.tasks)
            row.instructions = sum(s.instructions for s in done)
        row.seconds = time.perf_counter() - begin
        yield row


def _device(args: argparse.Namespace) -> Device:
    from forge.lower.devices import find, named

    if not args.emulate:
        return find(args.target)
    from forge.amdgcn.bridge import Emulated
    from forge.amdgcn.emulate import Checks

    return Emulated(named(args.emulate), Checks(waits=args.waits, races=args.races))


def _by_kernel(rows: list[KernelRow]) -> list[KernelRow]:
    merged: dict[str, KernelRow] = {}
    for row in rows:
        whole = merged.setdefault(row.kernel, KernelRow(row.kernel, "", 0, 0.0, 0, 0, 0.0))
        whole.cases += 1
        whole.error = max(whole.error, row.error)
        whole.launches += row.launches
        whole.instructions += row.instructions
        whole.seconds += row.seconds
        whole.failure = whole.failure or row.failure
    return list(merged.values())


def _table(rows: list[KernelRow], args: argparse.Namespace) -> str:
    columns = ["kernel", "case" if args.cases else ">cases", ">max error", ">launches"]
    columns += [">instructions"] if args.emulate else []
    columns += [">seconds", "result"]
    shown = []
    for row in rows:
        cells: list[object] = [row.kernel, row.case if args.cases else row.cases, f"{row.error:.1e}", row.launches]
        cells += [f"{row.instructions:,}"] if args.emulate else []
        shown.append((*cells, f"{row.seconds:.2f}", "WRONG" if row.failure else "right"))
    return markdown(columns, shown)
