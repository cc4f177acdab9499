"""Where weights come from, as `forge.lower.weights` reads them: a GGUF file, or tensors at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forge.errors import FileFormatError, GraphError, UsageError
from forge.gguf import GGUFFile
from forge.gguf.header import stamp_of
from forge.graph.ir import Node
from forge.graph.types import TensorType

if TYPE_CHECKING:
    import numpy as np
    import torch


class GGUFSource:
    """Weights read from a GGUF file, as it was when it was opened. Implements `forge.lower.weights.Source`."""

    def __init__(self, gguf: GGUFFile) -> None:
        self._tensors = gguf.tensors  # they outlive the file's being closed

    def raw(self, name: str) -> torch.Tensor:
        import numpy as np
        import torch

        found = self._tensors[name]
        rows = found.type.numel // found.type.concrete()[-1]
        raw = np.empty(found.type.nbytes, np.uint8)  # not the map: what becomes of the file is no matter afterwards
        self.read(name, 0, raw)
        return torch.from_numpy(raw).view(rows, -1)

    def read(self, name: str, start: int, out: np.ndarray) -> None:
        """Read from the file itself: a page of the map that cannot be read would end the process.

        Raises FileFormatError where the file has changed since it was opened, or cannot be read.
        """
        found, done = self._tensors[name], 0
        if found.stamp is None:  # made in memory
            out[:] = found.data.reshape(-1)[start : start + out.nbytes]
            return
        place = f"{found.path}, tensor {name}, byte {found.offset + start}"
        try:
            with open(found.path, "rb", buffering=0) as file:
                file.seek(found.offset + start)
                while done < out.nbytes:
                    count = file.readinto(out[done:].data)
                    if not count:
                        raise FileFormatError(
                            f"the file ends {out.nbytes - done:,} bytes early; it was longer when it was opened",
                            where=place,
                            remedy="do not change a model file that is in use",
                        )
                    done += count
                changed = stamp_of(os.fstat(file.fileno())) != found.stamp
        except OSError as error:
            raise FileFormatError(f"the file cannot be read: {error}", where=place, remedy="check the disk") from error
        if changed:
            raise FileFormatError(
                "the file was changed after it was opened", where=place, remedy="open it again, when it is complete"
            )

    def type_of(self, name: str) -> TensorType:
        return self._tensors[name].type


class TensorSource:
    """Weights from `tensors` by name: torch tensors, and `Packed` ones of block types. Implements `Source`."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.tensors = tensors

    def raw(self, name: str) -> torch.Tensor:
        import torch

        from forge.quant import Packed, unpack

        found = self._found(name)
        if isinstance(found, Packed):
            return unpack(found).cpu()
        width = found.shape[-1] if found.dim() else 1
        raw: torch.Tensor = found.detach().cpu().contiguous().reshape(-1, width).view(torch.uint8)
        return raw

    def read(self, name: str, start: int, out: np.ndarray) -> None:
        out[:] = self.raw(name).reshape(-1)[start : start + out.nbytes].numpy()

    def type_of(self, name: str) -> TensorType:
        from forge.lower.values import type_of

        type = type_of(self._found(name))
        assert type is not None
        return type

    def check(self, leaf: Node) -> None:
        """Raise UsageError if parts of a weight are given that do not make its type."""
        import torch

        from forge.quant import Packed

        assert leaf.leaf is not None
        want = leaf.types[0]
        types = {}
        for part in leaf.parts:
            if part.name not in self.tensors:
                continue
            given = self.tensors[part.name]
            if not isinstance(given, (torch.Tensor, Packed)):
                raise UsageError(
                    f"weights: {part.name} is a {type(given).__name__}", remedy="a torch tensor, or Packed"
                )
            have = types[part.name] = self.type_of(part.name)
            if have.dtype != want.dtype or have.rank != want.rank:
                raise UsageError(f"weights: {part.name} is {have}; the graph wants {want}")
        if all(part.name in types for part in leaf.parts):
            try:
                made = leaf.leaf.made_of(types)
            except GraphError as error:
                raise UsageError(f"weights: {error.what}; the graph wants {want}") from error
            if made != want:
                raise UsageError(f"weights: {leaf.name} is {made}; the graph wants {want}")

    def _found(self, name: str) -> Any:
        if name not in self.tensors:
            raise GraphError(f"weights are not given: {name}", remedy="weights= of forge.compile_graph")
        return self.tensors[name]
