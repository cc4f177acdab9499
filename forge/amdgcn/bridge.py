"""The emulator as one of Forge's devices: the one file of `amdgcn` that knows anything of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from forge.amdgcn import emulate as machine
from forge.amdgcn.emulate import NO_CHECKS, Checks, Emulation, Ran
from forge.errors import DeviceError
from forge.lower.device import CPU, Action, Captured
from forge.lower.launch import Launch, Task
from forge.lower.offline import CodeObject, compile_launch
from forge.target import TARGETS, DeviceTarget
from forge.triton_internals import descriptor_parts

if TYPE_CHECKING:
    import torch


class Emulated:
    """An AMD GPU of `target`'s architecture, whose code this CPU executes instruction by instruction.

    It is there to check code, and tells nothing of speed. What is no launch of ours runs on the CPU as it is. Raises
    UnsupportedError for a target without an emulator, MissingDependencyError without its tables.
    """

    def __init__(self, target: DeviceTarget, checks: Checks = NO_CHECKS) -> None:
        machine.require(target.arch)
        self.target, self.checks, self.name = target, checks, f"emulated:{target}"
        self.captures = False
        self.gbps, self.tflops = target.gbps, target.tflops  # the data sheet's
        self._host = CPU()

    @property
    def torch_device(self) -> torch.device:
        return self._host.torch_device

    def free_memory(self) -> int:
        return self._host.free_memory()

    def prepare(self, task: Task) -> Action:
        """A launch is compiled now; each call of it gives an `Emulation`."""
        if not isinstance(task, Launch):
            return task
        object = compile_launch(task, self.target)
        return lambda: run(object, task, self.checks)

    def capture(self, calls: Sequence[Action]) -> Captured:
        raise DeviceError("emulated launches cannot be captured", remedy="a GPU")

    def active(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def synchronize(self) -> None:
        """Nothing outlasts its call."""

    def __str__(self) -> str:
        return self.name


def emulate(
    launch: Launch,
    target: DeviceTarget,
    checks: Checks = NO_CHECKS,
    *,
    count: bool = False,
    reachable: Sequence[torch.Tensor] = (),
) -> Emulation:
    """Compile `launch` for `target` and run it as that would, on torch tensors of the CPU, which it changes in place.

    `reachable` are tensors that the kernel reaches by addresses in other tensors, not by arguments.

    See `forge.amdgcn.emulate.run`. Raises CompileError too, and what `Emulated` raises.
    """
    machine.require(target.arch)
    return run(compile_launch(launch, target), launch, checks, count=count, reachable=reachable)


def run(
    object: CodeObject,
    launch: Launch,
    checks: Checks = NO_CHECKS,
    *,
    count: bool = False,
    trace: list[Ran] | None = None,
    reachable: Sequence[torch.Tensor] = (),
) -> Emulation:
    """Run a compiled launch on its arguments."""
    units = TARGETS[object.arch].compute_units
    return machine.run(
        object, launch.grid, _given(launch), checks,
        count=count, trace=trace, reachable=reachable, compute_units=units,
    )  # fmt: skip


def _given(launch: Launch) -> dict[str, Any]:
    """The arguments of a launch by the names of `CodeObject.parameters`: a descriptor's parts are `name.0` on."""
    given: dict[str, Any] = {}
    for path, value in launch.leaves().items():
        parts = descriptor_parts(value)
        given |= {path: value} if parts is None else {f"{path}.{n}": part for n, part in enumerate(parts)}
    return given
