"""Operands of an op's cases on a device, in the layouts that the selected kernel takes."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from forge.graph.op import Case, Op
from forge.graph.types import DTYPES, TensorType
from forge.kernels import fills, load
from forge.lower.operands import empty, torch_dtype
from forge.lower.select import Selection, call_of, select
from forge.quant import Packed, dense_as, pack, random_blocks
from forge.target import DeviceTarget
from forge.tune.store import TuningStore

if TYPE_CHECKING:
    import torch


def selection_of(op: Op, case: Case, target: DeviceTarget, store: TuningStore) -> Selection:
    """The kernel and configuration for a case. Raises UnsupportedError if no kernel serves it on `target`."""
    return select(call_of(op, case.types, case.attrs, target), store)


def steps_of(selection: Selection, case: Case, device: torch.device) -> list[Any]:
    """The steps of a case on operands of their own."""
    call = selection.call
    op = call.op
    values = _values(op, case, device)
    layouts = selection.kernel.layouts(call) if selection.kernel.layouts else {}
    for name, wanted in layouts.items():
        i = op.operands.index(name)
        values[i] = _stored(values[i], wanted[0])
    written = values[op.operands.index(op.writes)] if op.writes else None
    fresh = call.results if written is None else call.results[1:]
    outputs = tuple(empty(t, device) for t in fresh)
    work = tuple(empty(t, device) for t in selection.workspace)
    return selection.build(outputs, tuple(values), work)


def _values(op: Op, case: Case, device: torch.device) -> list[Any]:
    import torch

    generator = torch.Generator().manual_seed(zlib.crc32(f"{op.name} {case.name}".encode()))
    if case.make is not None:
        made = list(case.make(generator))
    else:
        made = [
            None if t is None else _fill(generator, t, case.fills.get(n, fills.normal), device)
            for n, t in zip(op.operands, case.types, strict=True)
        ]
    return [None if v is None else v.to(device) for v in made]


def _fill(generator: torch.Generator, type: TensorType, fill: fills.Fill, device: torch.device) -> Any:
    if type.dtype.name == "a8":
        return load()["quantize_q8"](fill(generator, TensorType(type.shape, DTYPES["f32"])).to(device))
    if type.dtype.quantized:
        return pack(type, random_blocks(type, generator))
    return fill(generator, type)


def _stored(value: Any, layout: str) -> Any:
    """A weight in one of the layouts of `forge.lower.weights`."""
    if layout == "planes":
        return value
    dtype = torch_dtype(TensorType((), DTYPES[layout.removeprefix("dense:")]))
    return dense_as(value, dtype) if isinstance(value, Packed) else value.to(dtype)
