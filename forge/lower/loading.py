"""Every weight of a plan on its device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forge.graph.ir import Node
from forge.lower.upload import upload
from forge.lower.weights import Progress, Source, Storage


def load_weights(
    storages: Mapping[Node, Storage], source: Source, device: Any, progress: Progress | None = None
) -> dict[Node, Any]:
    """Every weight on `device`; `progress(bytes done, bytes in all)` is called after each.

    A CPU makes one after the other, with all its cores; to a GPU they are streamed (`forge.lower.upload`).
    """
    if device.type == "cuda":
        return upload(storages, source, device, progress)
    total, done = sum(s.nbytes for s in storages.values()), 0
    loaded: dict[Node, Any] = {}
    for leaf, storage in storages.items():
        loaded[leaf] = storage.load(source, device)
        done += storage.nbytes
        if progress:
            progress(done, total)
    return loaded
