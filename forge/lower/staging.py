"""A step's inputs on their way to the device: laid side by side in pinned memory, and sent by one copy.

There are RING host buffers, so that the next step's inputs can be laid down while the last step's copy still waits
behind the work of the step before it. On a CPU the host's memory is the device's, and there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from forge.graph.ir import Node
from forge.lower.device import Device
from forge.lower.sizes import Sizes

ALIGNMENT = 16  # bytes: kernels may assume that pointers are multiples of it
RING = 2


class Staging:
    """Room for the `inputs` of a graph at their largest. `device` is the memory that the kernels read."""

    def __init__(self, inputs: Iterable[Node], on: Device) -> None:
        self._inputs = {n.name: n.types[0] for n in inputs}
        nbytes = max(1, sum(_aligned(t.upper().nbytes) for t in self._inputs.values()))
        pinned = on.torch_device.type == "cuda"
        with on.active():
            hosts = [torch.zeros(nbytes, dtype=torch.uint8, pin_memory=pinned) for _ in range(RING if pinned else 1)]
            self.device = torch.empty(nbytes, dtype=torch.uint8, device=on.torch_device) if pinned else hosts[0]
            # When the copy out of each host buffer is done.
            self._ring: list[tuple[torch.Tensor, Any]] = [(h, torch.cuda.Event() if pinned else None) for h in hosts]  # type: ignore[no-untyped-call]
        self._turn = 0

    def places(self, sizes: Sizes) -> tuple[dict[str, slice], int]:
        """Which bytes each input takes at these sizes, and how many all of them take."""
        found, length = {}, 0
        for name, type in self._inputs.items():
            nbytes = type.bind(sizes).nbytes
            found[name] = slice(length, length + nbytes)
            length += _aligned(nbytes)
        return found, length

    def send(self, inputs: Mapping[str, np.ndarray | torch.Tensor], places: Mapping[str, slice], length: int) -> None:
        """Lay the inputs down and queue their copy. Waits for the copy of the last but one step, if it is not done."""
        host, copied = self._ring[self._turn]
        self._turn = (self._turn + 1) % len(self._ring)
        if copied is not None and not copied.query():
            copied.synchronize()
        numbers = host.numpy()
        for name, place in places.items():
            numbers[place] = _bytes(inputs[name])
        if copied is not None:
            self.device[:length].copy_(host[:length], non_blocking=True)
            copied.record()


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _bytes(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """The bytes of an array, in one row."""
    if isinstance(array, torch.Tensor):
        return array.contiguous().view(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
