"""Run one op now: select, build, launch. What calling an op on tensors does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from forge.errors import DeviceError, GraphError
from forge.graph.op import Op
from forge.lower.operands import empty, type_of
from forge.lower.schedule import build, of_call
from forge.target import TARGETS, DeviceTarget, detect_gpu
from forge.tune.store import TuningStore


@cache
def _store() -> TuningStore:
    return TuningStore()


@cache
def _gpu(index: int) -> DeviceTarget:
    return detect_gpu(index)


def target_of(device: Any) -> DeviceTarget:
    """The target that a torch device stands for."""
    if device.type == "cpu":
        return TARGETS["cpu"]
    if device.type == "cuda":
        return _gpu(device.index or 0)
    raise DeviceError(f"no target stands for torch device {device}", remedy="use tensors on cpu or cuda")


def run(op: Op, operands: tuple[Any, ...], attrs: Mapping[str, Any], target: DeviceTarget | None = None) -> Any:
    """Results of `op` on tensors, on the device they are on; `target` overrides what that device stands for.

    An op that writes a state operand updates it in place and returns it as its first result.
    """
    given = [o for o in operands if o is not None]
    devices = {str(o.device) for o in given}
    if len(devices) != 1:
        raise GraphError(f"{op.name}: operands are on several devices: {', '.join(sorted(devices))}")
    if op.view:
        return op.reference(*operands, **attrs)
    device = given[0].device
    where = target or target_of(device)
    found = of_call(op, tuple(type_of(o) for o in operands), attrs, where, _store())
    by_name = dict(zip(op.operands, operands, strict=True))
    built = build(found, lambda place: by_name[place.leaf.name] if place.leaf else empty(place.type, device))
    built.run()
    results = tuple(built.outputs.values())
    return results[0] if len(results) == 1 else results
