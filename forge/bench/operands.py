"""Operands of an op's cases on a device, in the layouts that the selected kernel takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forge.graph.op import Case, Op
from forge.graph.types import DTYPES, TensorType
from forge.lower.operands import empty, torch_dtype
from forge.lower.select import Selection, call_of, select
from forge.quant import Packed, dense_as
from forge.target import DeviceTarget
from forge.tune.store import TuningStore
from forge.verify.operands import seeded

if TYPE_CHECKING:
    import torch


def selection_of(op: Op, case: Case, target: DeviceTarget, store: TuningStore) -> Selection:
    """The kernel and configuration for a case. Raises UnsupportedError if no kernel serves it on `target`."""
    return select(call_of(op, case.types, case.attrs, target), store)


def values_of(selection: Selection, case: Case, device: torch.device) -> list[Any]:
    """Seeded operands of a case."""
    call = selection.call
    op = call.op
    made = seeded(op, case)
    layouts = selection.kernel.layouts(call) if selection.kernel.layouts else {}
    for name, wanted in layouts.items():
        i = op.operands.index(name)
        made[i] = _stored(made[i], wanted[0])
    return [None if v is None else v.to(device) for v in made]


def copied(values: Sequence[Any]) -> list[Any]:
    """The same operands in memory of their own."""
    return [None if v is None else _clone(v) for v in values]


def steps_of(selection: Selection, values: Sequence[Any], device: torch.device) -> list[Any]:
    """The steps that carry out the call on these operands, with results and scratch of their own."""
    call = selection.call
    fresh = call.results[1:] if call.op.writes else call.results
    outputs = tuple(empty(t, device) for t in fresh)
    work = tuple(empty(t, device) for t in selection.workspace)
    return selection.build(outputs, tuple(values), work)


def _clone(value: Any) -> Any:
    if isinstance(value, Packed):
        return Packed(value.type, {n: p.clone() for n, p in value.planes.items()}, value.layout)
    return value.clone()


def _stored(value: Any, layout: str) -> Any:
    """A weight in one of the layouts of `forge.lower.weights`."""
    if layout == "planes":
        return value
    dtype = torch_dtype(TensorType((), DTYPES[layout.removeprefix("dense:")]))
    return dense_as(value, dtype) if isinstance(value, Packed) else value.to(dtype)
