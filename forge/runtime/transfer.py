"""upload(values): host numbers to the device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def upload(values: Sequence[object], device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`values` (numbers, or rows of them) as a tensor on `device`.

    From pinned memory the copy is queued behind the work already there; from pageable memory torch would wait for it.
    """
    tensor = torch.tensor(values, dtype=dtype, pin_memory=device.type == "cuda")
    return tensor.to(device, non_blocking=True)
