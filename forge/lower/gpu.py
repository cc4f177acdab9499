"""GPUs of this machine, each by its number: nothing here means "the current device"."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from forge.errors import DeviceError, MissingDependencyError, UnsupportedError
from forge.language import interpreted
from forge.lower.device import SHARE, Action, Captured
from forge.lower.launch import Launch, Task
from forge.lower.rates import copied_gbps, product_tflops
from forge.target import TARGETS, DeviceTarget
from forge.triton_internals import launcher

if TYPE_CHECKING:
    import torch


class GPU:
    """GPU number `index` as torch counts them; torch's ROCm build answers under torch.cuda too.

    `target` is what it is compiled for, by default its own architecture with its number of compute units.
    """

    def __init__(self, index: int = 0, target: DeviceTarget | None = None) -> None:
        self.index, self.name, self.captures = index, f"gpu:{index}", True
        self.target = target or target_of(index)

    @property
    def torch_device(self) -> torch.device:
        import torch

        return torch.device("cuda", self.index)

    @cached_property
    def gbps(self) -> float:
        """By the memory's clock and width where those tell, as on NVIDIA; else by a copy, measured once."""
        import torch

        properties = torch.cuda.get_device_properties(self.index)
        clock, width = (getattr(properties, name, 0) for name in ("memory_clock_rate", "memory_bus_width"))
        if torch.version.hip or not clock or not width:
            measured = copied_gbps(self.torch_device)
            torch.cuda.empty_cache()  # other processes have the memory of the copy back
            return measured
        return float(2 * clock * 1e3 * width / 8 / 1e9)  # kHz, bits; two transfers a cycle

    @cached_property
    def tflops(self) -> float:
        """By a product of the vendor's library, measured once."""
        import torch

        measured = product_tflops(self.torch_device, "f16")
        torch.cuda.empty_cache()
        return measured

    def free_memory(self) -> int:
        """With what torch's allocator keeps of tensors that are gone, which it gives to the next ones."""
        import torch

        kept = torch.cuda.memory_reserved(self.index) - torch.cuda.memory_allocated(self.index)
        return int(SHARE * (torch.cuda.mem_get_info(self.index)[0] + kept))

    def prepare(self, task: Task) -> Action:
        if not isinstance(task, Launch) or interpreted():
            return task
        try:
            with self.active():
                return launcher(task.fn, task.grid, task.args, task.meta, task.arguments(), self.index)
        except Exception as error:
            # Triton raises many kinds; each is the compiler's or the driver's word on this kernel.
            what = f"{task.fn.__name__} with grid {task.grid} cannot be launched on {self}: {error}"
            raise DeviceError(what) from error

    def capture(self, calls: Sequence[Action]) -> Captured:
        """A graph of `calls`, on a stream of its own. Other threads may go on using the GPU meanwhile."""
        import torch

        with self.active():
            free, graph = torch.cuda.mem_get_info(self.index)[0], torch.cuda.CUDAGraph()
            current, side = torch.cuda.current_stream(self.index), torch.cuda.Stream(self.index)  # type: ignore[no-untyped-call]
            side.wait_stream(current)
            try:
                with torch.cuda.stream(side):
                    graph.capture_begin(capture_error_mode="thread_local")
                    try:
                        for call in calls:
                            call()
                    finally:
                        graph.capture_end()
            except Exception as error:  # of many kinds: the driver's word, or torch's, on what cannot be captured
                raise DeviceError(f"launches cannot be captured on {self}: {error}") from error
            current.wait_stream(side)
            return Captured(graph.replay, max(0, free - torch.cuda.mem_get_info(self.index)[0]))

    def active(self) -> AbstractContextManager[Any]:
        import torch

        return torch.cuda.device(self.index)

    def synchronize(self) -> None:
        import torch

        torch.cuda.synchronize(self.index)

    def __str__(self) -> str:
        return f"{self.name} ({self.target})"


def present() -> str:
    """What the machine has, in words."""
    gpus = [f"gpu:{i} ({arch_of(i)})" for i in range(count())]
    return ", ".join([*gpus, "cpu"])


def count() -> int:
    """How many GPUs torch sees."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(f"torch cannot be imported: {error}", remedy="pip install torch") from error
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def arch_of(index: int) -> str:
    """The arch id of a GPU."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    return properties.gcnArchName.split(":")[0] if torch.version.hip else f"sm_{properties.major}{properties.minor}"


def target_of(index: int) -> DeviceTarget:
    """The target of a GPU at hand, with the compute units that it has."""
    import torch

    if index >= count():
        raise DeviceError(f"there is no GPU {index} here; there is {present()}", remedy="run `forge doctor`")
    arch = arch_of(index)
    if arch not in TARGETS:
        known = ", ".join(TARGETS)
        raise UnsupportedError(f"the GPU is a {arch}, which Forge has no description of", remedy=f"known: {known}")
    return replace(TARGETS[arch], compute_units=torch.cuda.get_device_properties(index).multi_processor_count)
