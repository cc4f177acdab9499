"""What a device gives, measured: memory that is free, bandwidth by a copy, arithmetic by a product."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

COPIED = {"cpu": 128 << 20, "cuda": 1 << 30}  # bytes: several times the largest cache
REPETITIONS = 5  # of which the quickest counts


def copied_gbps(device: torch.device) -> float:
    """GB/s that a copy within the device's memory reads and writes."""
    import torch

    source = torch.ones(COPIED[device.type], dtype=torch.uint8, device=device)
    to = torch.empty_like(source)
    return 2 * source.numel() / _quickest(lambda: to.copy_(source), device) / 1e9


def product_tflops() -> float:
    """TFLOP/s of the CPU in a product of f32 matrices."""
    import torch

    n = 1024
    a, b, c = torch.ones(n, n), torch.ones(n, n), torch.empty(n, n)
    return 2 * n**3 / _quickest(lambda: torch.mm(a, b, out=c), a.device) / 1e12


def spare_memory() -> int:
    """Bytes of memory the system can give without swapping."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _quickest(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the quickest of some repetitions."""
    import torch

    best = float("inf")
    for _ in range(REPETITIONS):
        begin = perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, perf_counter() - begin)
    return best
