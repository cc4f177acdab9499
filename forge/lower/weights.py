"""Weights in memory: which layout each one is stored in, what that takes, and loading it from the file.

A kernel says which layouts it takes (`Kernel.layouts`); where none does, a block type is stored as its planes and any
other type as it is. Layouts: "planes", "dense:f32", "dense:f16", "dense:bf16".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from forge.errors import GraphError, UnsupportedError
from forge.graph.ir import Node
from forge.graph.leaves import Part
from forge.graph.types import DTYPES, TensorType
from forge.lower.values import empty, torch_dtype
from forge.quant import Packed, format_of, pack, to_dense
from forge.quant.tensors import table_of

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)


class Source(Protocol):
    """Where weights come from: a GGUF file, or generated ones."""

    def raw(self, name: str) -> Any:
        """The tensor's bytes as torch uint8 [rows, bytes a row], on the CPU; a vector is one row."""

    def read(self, name: str, start: int, out: Any) -> None:
        """Write the tensor's bytes from `start` on to `out`, an array uint8, all of it. Called by several threads."""

    def type_of(self, name: str) -> TensorType:
        """The tensor's type. Asked only where a weight is more or less than one whole tensor."""


def raw_of(leaf: Node, source: Source) -> Any:
    """The bytes uint8 [rows, bytes a row] of a weight leaf: its parts cut out of their tensors, and stacked.

    Raises GraphError for a part that is not within its tensor, or that cuts through a block.
    """
    import torch

    whole, axis = leaf.types[0], leaf.leaf.axis if leaf.leaf else 0
    cut = [_cut(part, source) for part in leaf.parts]
    if len(cut) == 1:
        return cut[0]
    if whole.rank == 1 or axis == whole.rank - 1:
        return torch.cat(cut, dim=1)  # rows become longer
    if axis == 0:
        return torch.cat(cut, dim=0)
    shapes = [part.shape_in(source.type_of(part.name)) for part in leaf.parts]
    stacks = [raw.view(*shape[:-1], -1) for raw, shape in zip(cut, shapes, strict=True)]
    return torch.cat(stacks, dim=axis).flatten(0, -2)


def _cut(part: Part, source: Source) -> Any:
    """The bytes [rows, bytes a row] of a part."""
    raw = source.raw(part.name)
    if part.whole:
        return raw
    type = source.type_of(part.name)
    shape = type.concrete()
    length = part.shape_in(type)[part.axis]
    if part.axis == type.rank - 1:
        if part.start % type.dtype.block or length % type.dtype.block:
            raise GraphError(f"the part {part} cuts through blocks of {type.dtype.block} {type.dtype}")
        start, stop = (type.dtype.size(n) for n in (part.start, part.start + length))
        return raw[:, start:stop]
    return raw.view(*shape[:-1], -1).narrow(part.axis, part.start, length).flatten(0, -2)


@dataclass(frozen=True)
class Storage:
    """How one weight leaf is kept."""

    leaf: Node
    layout: str

    @property
    def type(self) -> TensorType:
        return self.leaf.types[0]

    @property
    def stored(self) -> TensorType:
        """The type that a dense layout keeps."""
        return TensorType(self.type.shape, DTYPES[self.layout.removeprefix("dense:")])

    @property
    def nbytes(self) -> int:
        if self.layout == "planes":
            form = format_of(self.type.dtype)
            return sum(p.nbytes for p in form.plane_types(self.type.concrete()).values()) + 4 * len(form.table)
        return self.stored.nbytes

    def load_meta(self) -> Any:
        """The weight's shape without its memory, for compiling kernels with no device."""
        if self.layout == "planes":
            form = format_of(self.type.dtype)
            planes = {n: empty(plane, "meta") for n, plane in form.plane_types(self.type.concrete()).items()}
            return Packed(self.type, planes, table=table_of(form, "meta"))
        return empty(self.stored, "meta")

    def load(self, source: Source, device: Any) -> Any:
        """The weight on `device`, as a tensor or `Packed`."""
        raw = raw_of(self.leaf, source)
        if self.layout == "planes":
            return pack(self.type, raw.to(device))
        return to_dense(self.type, raw, torch_dtype(self.stored)).to(device)


def natural(type: TensorType) -> str:
    """The layout that keeps a weight's own bits."""
    return "planes" if type.dtype.quantized else f"dense:{type.dtype}"


def agree(leaf: Node, wishes: Sequence[tuple[str, ...]]) -> str:
    """The layout that all of `wishes` take, best of the pickiest. Raises UnsupportedError if there is none.

    A wish is the layouts that one kernel takes, best first. A weight that nothing reads is kept as it is.
    """
    pickiest = min(wishes, key=len, default=(natural(leaf.types[0]),))
    for layout in pickiest:
        if all(layout in wish for wish in wishes):
            return layout
    raise UnsupportedError(
        f"{leaf.label} is wanted in layouts that no one storage serves: {', '.join(map(str, wishes))}",
        remedy="give the kernels of its ops a layout in common, at every size",
    )
