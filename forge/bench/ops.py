"""Time of single ops beside the roofline: of each op, its costliest case of every combination of element types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from forge.bench.roofline import Rate
from forge.bench.timing import Sample, time_graph, time_host
from forge.errors import UnsupportedError
from forge.graph.op import Case, Op
from forge.graph.types import DTYPES, TensorType
from forge.lower import schedule
from forge.lower.device import Device
from forge.lower.values import empty, torch_dtype
from forge.quant import Packed, dense_as
from forge.tune.store import TuningStore
from forge.verify.seeded import seeded

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


def measure(ops: Mapping[str, Op], device: Device) -> Iterator[OpRow]:
    """A row for each case worth timing on `device`; those that no kernel serves are left out."""
    store, where = TuningStore(), device.torch_device
    for op in ops.values():
        if op.view:
            continue
        for case in worth_timing(op):
            try:
                found = schedule.of_call(op, case.types, case.attrs, device.target, store)
            except UnsupportedError:
                continue
            cost = op.cost(*case.types, **case.attrs)
            copies = 1 if where.type == "cpu" else max(1, min(MOST_COPIES, ROTATED // max(cost.bytes, 1)))
            values = operands_of(found, op, case, where)
            sets = [values, *(copied(values) for _ in range(copies - 1))]
            sample = _time([_tasks(found, each, where) for each in sets], device)
            kernel = "; ".join(str(step.selection) for step in found.steps if step.selection)
            types = ", ".join(str(t) for t in case.types if t is not None)
            yield OpRow(op.name, case.name, types, kernel, copies, sample, Rate(sample.median, cost, device))


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


def operands_of(found: schedule.Schedule, op: Op, case: Case, device: torch.device) -> dict[str, Any]:
    """Seeded operands of a case by name, each in the layout that the kernels take best."""
    made = dict(zip(op.operands, seeded(op, case), strict=True))
    for step in found.steps:
        layouts = step.selection.layouts if step.selection else {}
        for name, value in zip(step.node.op.operands if step.node.op else (), step.node.inputs, strict=True):
            if name in layouts and value is not None and value.node.leaf:
                made[value.node.name] = _stored(made[value.node.name], layouts[name][0])
    return {name: None if v is None else v.to(device) for name, v in made.items()}


def copied(operands: Mapping[str, Any]) -> dict[str, Any]:
    """The same operands in memory of their own."""
    return {name: None if v is None else _clone(v) for name, v in operands.items()}


def _tasks(found: schedule.Schedule, operands: Mapping[str, Any], device: torch.device) -> list[Any]:
    """The tasks of a scheduled call on these operands, with results and scratch of their own."""
    built = schedule.build(found, lambda p: operands[p.leaf.name] if p.leaf else empty(p.type, device))
    return [task for _, task in built.tasks]


def _clone(value: Any) -> Any:
    if isinstance(value, Packed):
        return replace(value, planes={n: p.clone() for n, p in value.planes.items()})
    return value.clone()


def _stored(value: Any, layout: str) -> Any:
    """A weight in one of the layouts of `forge.lower.weights`."""
    if layout == "planes":
        return value
    dtype = torch_dtype(TensorType((), DTYPES[layout.removeprefix("dense:")]))
    return dense_as(value, dtype) if isinstance(value, Packed) else value.to(dtype)


def _time(copies: list[list[Any]], device: Device) -> Sample:
    calls = [device.prepare(task) for tasks in copies for task in tasks]
    if device.torch_device.type == "cuda":
        return Sample(tuple(s / len(copies) for s in time_graph(calls, device).seconds))

    def once() -> None:
        for call in calls:
            call()

    return time_host(once)
