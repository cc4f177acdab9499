"""Numbers between host and device without waiting for the device: queued behind the work that is already there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray


def upload(values: Sequence[object], device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`values` (numbers, or rows of them) as a tensor on `device`.

    From pinned memory the copy is queued behind the work already there; from pageable memory torch would wait for it.
    """
    tensor = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return tensor.to(device, non_blocking=True)


class Download:
    """A tensor on its way to the host. Its copy is queued at once, so that later work may overwrite the tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._done = torch.cuda.current_stream(tensor.device).record_event()
        else:
            self._host = tensor.clone()

    def wait(self) -> NDArray[np.generic]:
        """The numbers, once they are there."""
        if self._done is not None:
            self._done.synchronize()
        return self._host.numpy()
