"""The device at hand: whether it is what a target describes, as torch names it, and how much memory it has to give."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from forge.errors import DeviceError
from forge.target import DeviceTarget, detect

if TYPE_CHECKING:
    import torch

SHARE = 0.92  # of the free memory: the rest is for the allocator's rounding and for what libraries take
ABSENT_GPU = 64 << 30  # bytes that a GPU which is not here is taken to have free


def device_of(target: DeviceTarget) -> torch.device:
    """The torch device that is `target`. Raises DeviceError if the machine has none."""
    import torch

    if target.kind == "cpu":
        return torch.device("cpu")
    if not is_here(target):
        raise DeviceError(
            f"the model is compiled for {target}; the device at hand is {detect()}",
            remedy="compile with target='auto' to run here; graph, plan and code objects can be looked at anywhere",
        )
    return torch.device("cuda", torch.cuda.current_device())


def is_here(target: DeviceTarget) -> bool:
    """Whether the device at hand is of this architecture."""
    return detect().arch == target.arch


def free_memory(target: DeviceTarget) -> int:
    """Bytes a model may take of what the device has free."""
    import torch

    if target.kind == "cpu":
        return int(SHARE * _available())
    if is_here(target):
        return int(SHARE * torch.cuda.mem_get_info()[0])
    return ABSENT_GPU


def _available() -> int:
    """Bytes of memory the system can give without swapping."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
