"""Devices by name: those of this machine, architectures that it has not, and emulated ones.

find("auto")  find("cpu")  find("gpu:1")  find("gfx942")  find("emulated:gfx1100")
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

from forge.errors import DeviceError, MissingDependencyError, UnsupportedError
from forge.lower.device import CPU, Action, Captured, Device
from forge.lower.gpu import GPU, arch_of, count, present
from forge.lower.launch import Task
from forge.target import TARGETS, DeviceTarget

if TYPE_CHECKING:
    import torch

ABSENT_GPU = 64 << 30  # bytes that a GPU which is not here is taken to have free
EMULATOR = "forge.amdgcn.bridge:Emulated"  # resolved by name: the emulator is no part of running a model


class Absent:
    """An architecture that the machine has not: there is a plan and there is code, and nothing runs."""

    def __init__(self, target: DeviceTarget) -> None:
        self.target, self.name = target, target.arch
        self.gbps, self.tflops = target.gbps, target.tflops  # the data sheet's
        self.captures = target.kind == "gpu"

    @property
    def torch_device(self) -> torch.device:
        raise self._error()

    def free_memory(self) -> int:
        return ABSENT_GPU

    def prepare(self, task: Task) -> Action:
        raise self._error()

    def capture(self, calls: Sequence[Action]) -> Captured:
        raise self._error()

    def active(self) -> AbstractContextManager[Any]:
        raise self._error()

    def synchronize(self) -> None:
        raise self._error()

    def _error(self) -> DeviceError:
        return DeviceError(
            f"there is no {self.target} here; there is {present()}",
            remedy="target='auto' to run here; graph, plan and code objects can be looked at anywhere",
        )

    def __str__(self) -> str:
        return f"{self.target} (absent)"


def find(what: str | DeviceTarget | Device) -> Device:
    """The device called "auto" (the first GPU, else the CPU), "cpu", "gpu", "gpu:1", by an arch id, or "emulated:ARCH".

    An arch id, or a `DeviceTarget`, is the first GPU of that architecture, or an absent one. Raises UnsupportedError
    for a name of nothing and DeviceError for a GPU that is not here.
    """
    if isinstance(what, DeviceTarget):
        return CPU(what) if what.kind == "cpu" else _by_arch(what.arch, what)
    if not isinstance(what, str):
        return what
    kind, _, rest = what.partition(":")
    if kind == "emulated":
        return _emulated(rest)
    if what == "auto":
        return GPU(0) if count() else CPU()
    if what == "cpu":
        return CPU()
    if number := re.fullmatch(r"gpu(?::([0-9]+))?", what):
        return GPU(int(number[1] or 0))
    return _by_arch(named(what).arch, None)


def named(arch: str) -> DeviceTarget:
    """The target with this arch id."""
    found = TARGETS.get(arch)
    if found is None:
        names = ", ".join(["auto", "cpu", "gpu", "gpu:N", "emulated:ARCH", *(a for a in TARGETS if a != "cpu")])
        raise UnsupportedError(f"no target is called {arch!r}", remedy=f"one of: {names}")
    return found


def of_torch(device: torch.device) -> Device:
    """The device that a torch device is. Raises DeviceError for one of another kind."""
    if device.type == "cpu":
        return CPU()
    if device.type == "cuda":
        return _gpu(device.index or 0)
    raise DeviceError(f"no target stands for torch device {device}", remedy="use tensors on cpu or cuda")


def _by_arch(arch: str, target: DeviceTarget | None) -> Device:
    for index in range(count()):
        if arch_of(index) == arch:
            return GPU(index, target)
    return Absent(target or TARGETS[arch])


def _emulated(arch: str) -> Device:
    module, name = EMULATOR.split(":")
    try:
        emulator = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"there is no emulator: {error}", remedy="pip install 'forge-triton[emulate]'"
        ) from error
    made: Device = emulator(named(arch))
    return made


@cache
def _gpu(index: int) -> GPU:
    return GPU(index)
