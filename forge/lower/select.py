"""Choosing the kernel and the configuration that carry out a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

from forge.errors import GraphError, ShapeError, UnsupportedError
from forge.graph.op import Call, Kernel, Op, Types
from forge.graph.types import TensorType
from forge.lower.launch import Launch, Site, Task
from forge.target import DeviceTarget
from forge.tune.store import Choice, TuningStore


@dataclass(frozen=True)
class Selection:
    """A kernel with its configuration for one call."""

    call: Call
    kernel: Kernel
    choice: Choice

    @cached_property
    def workspace(self) -> tuple[TensorType, ...]:
        """The types of the scratch tensors that the kernel wants."""
        return self.kernel.workspace(self.call, self.choice.config)

    @cached_property
    def layouts(self) -> Mapping[str, tuple[str, ...]]:
        """The layouts that the kernel takes of weights, by operand; of an operand without a word, its natural one."""
        return self.kernel.layouts(self.call) if self.kernel.layouts else {}

    def build(self, outputs: tuple[Any, ...], operands: tuple[Any, ...], work: tuple[Any, ...]) -> list[Task]:
        """The tasks that carry out the call on these tensors: none where there is nothing to write.

        Raises GraphError for a kernel that would launch no program though a result has elements.
        """
        if not self._full and not self.call.op.writes:
            return []
        site = Site(self.call.target, self.choice.config, work)
        made = self.kernel.build(site, *outputs, *operands, **self.call.attrs)
        tasks = list(made) if isinstance(made, (list, tuple)) else [made]
        left = [task for task in tasks if type(task) is not Launch or not task.empty]
        if self._full and len(left) < len(tasks):
            told = f"{self.kernel.name} leaves a result unwritten: operands are empty"
            raise GraphError(f"{self.call.describe()}: {told}")
        return left

    @cached_property
    def _full(self) -> bool:
        """Whether a result that the kernel makes has an element; a state that it writes is none of these."""
        results = self.call.results[1:] if self.call.op.writes else self.call.results
        return any(type.numel for type in results)

    def __str__(self) -> str:
        config = " ".join(f"{k}={v}" for k, v in self.choice.config.items())
        return f"{self.kernel.name}[{config}]" + (f" ({self.choice.origin})" if config else "")


def require_finite(op: Op, attrs: Mapping[str, Any]) -> None:
    """Raise ShapeError for an attribute that is NaN or infinite."""
    for name, value in attrs.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(isfinite(n) for n in numbers if isinstance(n, float)):
            raise ShapeError(f"{op.name}: {name}={value!r} is not finite", remedy="a finite number")


def call_of(op: Op, types: Types, attrs: Mapping[str, Any], target: DeviceTarget) -> Call:
    """A call with its result types inferred. Raises ShapeError, also for attributes that are not finite."""
    require_finite(op, attrs)
    return Call(op, types, op.infer(types, attrs), attrs, target)


def find(call: Call, store: TuningStore) -> Selection | None:
    """The kernel and configuration that the store gives; None if no kernel serves, or composing is better."""
    found = store.choose(call)
    return None if found is None else Selection(call, *found)


def select(call: Call, store: TuningStore) -> Selection:
    """The kernel of the op's own that serves `call`. Raises UnsupportedError if none does."""
    found = find(call, store)
    if found is None:
        raise unserved(call)
    return found


def unserved(call: Call, *within: Call) -> UnsupportedError:
    """That no kernel serves `call`, which calls `within` it would be composed from, innermost first."""
    where = f"kernels of {call.op.name}: {_kernels(call.op)}"
    for outer in within:
        where += f"; of {outer.op.name}, whose `equals` needs it: {_kernels(outer.op)}"
    return UnsupportedError(
        f"no kernel serves {call.describe()}" + "".join(f", as part of {outer.describe()}" for outer in within),
        where=where,
        remedy="use operands of a type that one of them takes, or add a kernel to the op's file",
    )


def _kernels(op: Op) -> str:
    return ", ".join(op.kernels) or "none"
