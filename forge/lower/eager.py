"""Run one op now: select, build, launch. What calling an op on tensors does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from forge.errors import GraphError
from forge.graph.op import Op, Types
from forge.graph.parameters import Exact, exact
from forge.lower.devices import of_torch
from forge.lower.schedule import Schedule, build, of_call
from forge.lower.values import empty, type_of
from forge.quant.packed import Packed
from forge.target import DeviceTarget
from forge.tune.store import TuningStore


def run(op: Op, operands: tuple[Any, ...], attrs: Mapping[str, Any], target: DeviceTarget | None = None) -> Any:
    """Results of `op` on tensors, on the device they are on; `target` overrides what that device stands for.

    An op that writes a state operand updates it in place and returns it as its first result.
    """
    given = [o for o in operands if o is not None]
    devices = {str(o.device) for o in given}
    if not given:
        raise GraphError(f"{op.name}: each of its operands is None")
    if len(devices) != 1:
        raise GraphError(f"{op.name}: operands are on several devices: {', '.join(sorted(devices))}")
    if op.view:
        return op.reference(*operands, **attrs)
    where = given[0].device
    device = of_torch(where)
    target = target or device.target
    if target.kind == "gpu":
        _refuse_gaps(op, operands)
    found = _scheduled(op, tuple(type_of(o) for o in operands), exact(op.name, attrs), target)
    by_name = dict(zip(op.operands, operands, strict=True))
    with device.active():
        built = build(found, lambda place: by_name[place.leaf.name] if place.leaf else empty(place.type, where))
        built.run()
    results = tuple(built.outputs.values())
    return results[0] if len(results) == 1 else results


def _refuse_gaps(op: Op, operands: tuple[Any, ...]) -> None:
    """A kernel for GPUs takes the elements of a row as neighbours, and a state that it writes as dense."""
    for name, operand in zip(op.operands, operands, strict=True):
        if operand is None or isinstance(operand, Packed) or operand.is_contiguous():
            continue
        if name == op.writes or (operand.stride(-1) != 1 and operand.shape[-1] > 1):
            raise GraphError(
                f"{op.name}: {name}: {type_of(operand)} lies in strides of {operand.stride()}, where a GPU's kernels "
                + ("take a state that is dense" if name == op.writes else "take the elements of a row side by side"),
                remedy=f"{name}.contiguous()",
            )


@lru_cache(maxsize=4096)
def _scheduled(op: Op, types: Types, attrs: Exact, target: DeviceTarget) -> Schedule:
    return of_call(op, types, {name: value for name, value, _ in attrs}, target, _store())


@cache
def _store() -> TuningStore:
    return TuningStore()
