"""What a device is: where tensors lie, how much memory there is and how quick, and how a task is made to run.

`forge.lower.devices` finds one by name; the others are in `forge.lower.gpu` and, emulated, in `forge.amdgcn.bridge`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from forge.errors import DeviceError
from forge.language import interpreted
from forge.lower.launch import Launch, Task
from forge.lower.rates import copied_gbps, product_tflops, spare_memory
from forge.target import TARGETS, DeviceTarget

if TYPE_CHECKING:
    import torch

SHARE = 0.92  # of the free memory: the rest is for the allocator's rounding and for what libraries take

Action = Callable[[], Any]


@dataclass(frozen=True)
class Captured:
    """Launches as one graph of a device: `replay` launches them all. It takes `nbytes` of the device's memory."""

    replay: Action
    nbytes: int


class Device(Protocol):
    """`name` is what `find` takes for it; `gbps` and `tflops` are what the roofline is drawn from."""

    name: str
    target: DeviceTarget
    captures: bool  # whether there are graphs of launches

    @property
    def torch_device(self) -> torch.device:
        """Where tensors lie. Raises DeviceError for a device that is not here."""

    @property
    def gbps(self) -> float:
        """Memory bandwidth in GB/s."""

    @property
    def tflops(self) -> float:
        """Dense products of fp16 (of f32 on a CPU) with fp32 accumulation, in TFLOP/s."""

    def free_memory(self) -> int:
        """Bytes that a model may take of what is free."""

    def prepare(self, task: Task) -> Action:
        """A task compiled and made to run, as often as it is called, while the device is `active`."""

    def capture(self, calls: Sequence[Action]) -> Captured:
        """A graph of `calls`, each of which has run before; none runs now. Raises DeviceError if there can be none."""

    def active(self) -> AbstractContextManager[Any]:
        """While this lasts, launches of this thread go to the device."""

    def synchronize(self) -> None:
        """Wait until all that was launched is done."""


class CPU:
    """The processor, through torch. Its rates are measured once, when they are first asked for."""

    name, captures = "cpu", False

    def __init__(self, target: DeviceTarget = TARGETS["cpu"]) -> None:
        self.target = target

    @property
    def torch_device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    @cached_property
    def gbps(self) -> float:
        return copied_gbps(self.torch_device)

    @cached_property
    def tflops(self) -> float:
        return product_tflops(self.torch_device, "f32")

    def free_memory(self) -> int:
        return int(SHARE * spare_memory())

    def prepare(self, task: Task) -> Action:
        if isinstance(task, Launch) and not interpreted():
            raise DeviceError(f"{task.fn.__name__} is a kernel for GPUs; a CPU cannot launch it")
        return task

    def capture(self, calls: Sequence[Action]) -> Captured:
        raise DeviceError("launches on a CPU cannot be captured", remedy="a GPU")

    def active(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def synchronize(self) -> None:
        """Nothing outlasts its call."""

    def __str__(self) -> str:
        return self.name
