"""What a device gives, measured: memory that is free, bandwidth by a copy, arithmetic by a product."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

COPIED = {"cpu": 128 << 20, "cuda": 1 << 30}  # bytes: several times the largest cache
MULTIPLIED = {"cpu": 1024, "cuda": 8192}  # rows and columns: enough work for all compute units
REPETITIONS = 10  # of which the quickest counts


def copied_gbps(device: torch.device) -> float:
    """GB/s that a copy within the device's memory reads and writes."""
    import torch

    source = torch.ones(COPIED[device.type], dtype=torch.uint8, device=device)
    to = torch.empty_like(source)
    return 2 * source.numel() / _quickest(lambda: to.copy_(source), device) / 1e9


def product_tflops(device: torch.device, dtype: str) -> float:
    """TFLOP/s of the device's library in a product of square matrices: "f32", "f16" or "bf16", summed in f32."""
    import torch

    n, element = MULTIPLIED[device.type], {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]
    a, b, c = (torch.randn(n, n, device=device).to(element) for _ in range(3))  # zeros would draw less power
    return 2 * n**3 / _quickest(lambda: torch.mm(a, b, out=c), device) / 1e12


def spare_memory(root: Path = Path("/")) -> int:
    """Bytes that the system says it can give without swapping, or what the process's control groups still allow.

    Of these the least. The page cache counts as free to both. `root` is where /proc and /sys stand.
    """
    return min([_available(root / "proc/meminfo"), *_allowed(root)])


def _available(meminfo: Path) -> int:
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _allowed(root: Path) -> Iterator[int]:
    """What each control group of the process may still take: its own, and those that it lies in.

    Within a container the root of the mounted tree is the container's group. Files of version 2, and of version 1.
    """
    groups = root / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            tree, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            tree = root / "sys/fs/cgroup/memory"
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        own = tree / path.lstrip("/")
        for group in (own, *(p for p in own.parents if p.is_relative_to(tree))):
            limit, used = (_number(group / name) for name in names[:2])
            if limit is not None and used is not None:
                yield max(0, limit - used + _cached(group / "memory.stat", names[2]))


def _number(file: Path) -> int | None:
    """The number that a file holds; None if there is no file, or it says "max"."""
    text = file.read_text().strip() if file.exists() else ""
    return int(text) if text.isdecimal() else None


def _cached(stat: Path, name: str) -> int:
    """Bytes of the page cache that a group gives back when it needs memory."""
    found = dict(line.split() for line in stat.read_text().splitlines()) if stat.exists() else {}
    return int(found.get(name, 0))


def _quickest(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the quickest of some repetitions; on a GPU by its own clock."""
    return min((_on_gpu if device.type == "cuda" else _on_host)(call, device) for _ in range(REPETITIONS))


def _on_host(call: Callable[[], object], device: torch.device) -> float:
    begin = perf_counter()
    call()
    return perf_counter() - begin


def _on_gpu(call: Callable[[], object], device: torch.device) -> float:
    import torch

    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3
