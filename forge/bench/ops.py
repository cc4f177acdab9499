"""Time of single ops beside the roofline: of each op, its costliest case of every combination of element types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forge.bench.operands import copied, selection_of, steps_of, values_of
from forge.bench.roofline import Rate
from forge.bench.timing import Sample, time_graph, time_host
from forge.errors import UnsupportedError
from forge.graph.op import Case, Op
from forge.lower.executable import prepare_launch
from forge.target import DeviceTarget
from forge.tune.store import TuningStore

if TYPE_CHECKING:
    import torch

ROTATED = 256 << 20  # bytes that a captured graph goes through: several times the largest L2
MOST_COPIES = 256


@dataclass(frozen=True)
class OpRow:
    """One case on the kernel that was selected for it. `sample` is of one call."""

    op: str
    case: str
    types: str
    kernel: str
    copies: int
    sample: Sample
    rate: Rate

    def json(self) -> dict[str, Any]:
        shown = {"op": self.op, "case": self.case, "types": self.types, "kernel": self.kernel, "copies": self.copies}
        return shown | self.rate.json() | {"spread": self.sample.spread}


def measure(ops: Mapping[str, Op], target: DeviceTarget, device: torch.device) -> Iterator[OpRow]:
    """A row for each case worth timing on `device`, which is `target`; those that no kernel serves are left out."""
    store = TuningStore()
    for op in ops.values():
        if op.view:
            continue
        for case in worth_timing(op):
            try:
                selection = selection_of(op, case, target, store)
            except UnsupportedError:
                continue
            cost = op.cost(*case.types, **case.attrs)
            copies = 1 if device.type == "cpu" else max(1, min(MOST_COPIES, ROTATED // max(cost.bytes, 1)))
            values = values_of(selection, case, device)
            sets = [values, *(copied(values) for _ in range(copies - 1))]
            sample = _time([steps_of(selection, v, device) for v in sets], device)
            types = ", ".join(str(t) for t in case.types if t is not None)
            yield OpRow(op.name, case.name, types, str(selection), copies, sample, Rate(sample.median, cost, target))


def worth_timing(op: Op, cases: Iterable[Case] | None = None) -> list[Case]:
    """Of `cases`, by default all, that of the greatest cost for each combination of the operands' element types."""
    best: dict[tuple[str, ...], tuple[int, Case]] = {}
    for case in op.cases if cases is None else cases:
        cost = op.cost(*case.types, **case.attrs)
        key = tuple(str(t.dtype) for t in case.types if t is not None)
        size = cost.bytes + cost.flops
        if key not in best or size > best[key][0]:
            best[key] = size, case
    return [case for _, case in best.values()]


def _time(copies: list[list[Any]], device: torch.device) -> Sample:
    calls = [prepare_launch(step) for steps in copies for step in steps]
    if device.type == "cuda":
        return Sample(tuple(s / len(copies) for s in time_graph(calls).seconds))

    def once() -> None:
        for call in calls:
            call()

    return time_host(once)
