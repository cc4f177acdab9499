"""Choosing the kernel and the configuration that carry out a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forge.errors import UnsupportedError
from forge.graph.op import Call, Kernel, Op, Types
from forge.graph.types import TensorType
from forge.kernels.launch import Site, Step
from forge.target import DeviceTarget
from forge.tune.store import Choice, TuningStore


@dataclass(frozen=True)
class Selection:
    """A kernel with its configuration for one call."""

    call: Call
    kernel: Kernel
    choice: Choice

    @property
    def workspace(self) -> tuple[TensorType, ...]:
        return self.kernel.workspace(self.call, self.choice.config)

    def build(self, outputs: tuple[Any, ...], operands: tuple[Any, ...], work: tuple[Any, ...]) -> list[Step]:
        """The steps that carry out the call on these tensors."""
        site = Site(self.call.target, self.choice.config, work)
        steps = self.kernel.build(site, *outputs, *operands, **self.call.attrs)
        return list(steps) if isinstance(steps, (list, tuple)) else [steps]

    def __str__(self) -> str:
        config = " ".join(f"{k}={v}" for k, v in self.choice.config.items())
        return f"{self.kernel.name}[{config}]" + (f" ({self.choice.source})" if config else "")


def call_of(op: Op, types: Types, attrs: Mapping[str, Any], target: DeviceTarget) -> Call:
    """A call with its result types inferred. Raises ShapeError."""
    return Call(op, types, op.infer(types, attrs), attrs, target)


def select(call: Call, store: TuningStore) -> Selection:
    """The first kernel that serves `call`, in the order of declaration. Raises UnsupportedError if none does."""
    for kernel in call.op.kernels.values():
        if kernel.serves(call):
            return Selection(call, kernel, store.get(kernel, call))
    tried = ", ".join(k.name for k in call.op.kernels.values()) or "none"
    raise UnsupportedError(
        f"no kernel serves {call.describe()}",
        where=f"kernels of {call.op.name}: {tried}",
        remedy="use operands of a type that one of them takes, or add a kernel to the op's file",
    )
