"""Where values come from that no op computes: inputs, weights of the model file, constants, state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forge.errors import GraphError
from forge.graph.types import DType, TensorType

KINDS = ("input", "weight", "constant", "state")


@dataclass(frozen=True)
class Part:
    """Places `start` to `stop` along `axis` of the tensor `name` of a model file; by default all of it.

    Rows of a fused tensor, columns that a device of several holds, some of a stack of experts.
    """

    name: str
    axis: int = 0
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        ints = all(type(i) is int for i in (self.axis, self.start, self.stop) if i is not None)
        if not isinstance(self.name, str) or not ints:
            raise GraphError(f"a part is {self.name!r:.80}, {self.start!r}:{self.stop!r} along axis {self.axis!r}")
        if self.axis < 0 or self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise GraphError(f"a part of {self.name} is {self.start}:{self.stop} along axis {self.axis}")
        if self.whole and self.axis:
            object.__setattr__(self, "axis", 0)  # all of a tensor is one thing, whatever axis it is counted along

    @property
    def whole(self) -> bool:
        return self.start == 0 and self.stop is None

    def shape_in(self, type: TensorType) -> tuple[int, ...]:
        """The part's shape, of a tensor of `type`. Raises GraphError if it does not lie within."""
        shape = type.concrete()
        if self.whole:
            return shape
        length = shape[self.axis] if self.axis < len(shape) else 0
        if (self.stop or length) > length or self.start >= length:
            raise GraphError(f"the part {self} is not within {type}")
        return (*shape[: self.axis], (self.stop or length) - self.start, *shape[self.axis + 1 :])

    def __str__(self) -> str:
        if self.whole:
            return self.name
        place = f"{self.start}:{'' if self.stop is None else self.stop}"
        return f"{self.name}[{', '.join([':'] * self.axis + [place])}]"


def parts_of(parts: str | Part | Sequence[str | Part]) -> tuple[Part, ...]:
    """Parts from names and parts, one or several."""
    several = tuple(parts) if isinstance(parts, Sequence) and not isinstance(parts, str) else (parts,)
    if not several:
        raise GraphError("a weight is made of at least one part")
    return tuple(p if isinstance(p, Part) else Part(p) for p in several)


def numbers_of(name: str, dtype: DType, values: Sequence[int | float]) -> tuple[int | float, ...]:
    """The numbers of a constant. Raises GraphError for one that is none, or that an integer type does not hold."""
    known = all(isinstance(v, (int, float)) for v in values)
    if known and not dtype.floating:
        low, high = _range(dtype)
        known = all(low <= v <= high and v == int(v) for v in values)
    if not known:
        raise GraphError(f"constant {name} of {dtype}: {list(values)!r:.80} are not all of that type")
    return tuple((float if dtype.floating else int)(v) for v in values)


def _range(dtype: DType) -> tuple[int, int]:
    """The least and the largest number of an integer type."""
    bits = 8 * dtype.size(1)
    unsigned = {"bool": (0, 1), "u8": (0, 255)}
    return unsigned.get(dtype.name, (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))


@dataclass(frozen=True)
class Leaf:
    """A leaf's kind and name; of a weight its parts, stacked along `axis`; of a constant its numbers."""

    kind: str
    name: str
    parts: tuple[Part, ...] = ()
    axis: int = 0
    values: tuple[int | float, ...] = ()

    def made_of(self, tensors: Mapping[str, TensorType]) -> TensorType:
        """The type that a weight's parts make, cut out of tensors of these types and stacked.

        Raises GraphError for a part that is not within its tensor, or that cannot stand beside the first.
        """
        whole = tensors[self.parts[0].name]
        shapes = [part.shape_in(tensors[part.name]) for part in self.parts]
        for part, shape in zip(self.parts, shapes, strict=True):
            fits = tensors[part.name].dtype == whole.dtype and self._across(shape) == self._across(shapes[0])
            if not fits or (self.axis >= len(shape) and len(shapes) > 1):
                raise GraphError(
                    f"the part {part} of {tensors[part.name]} cannot stand beside {self.parts[0]} of {whole}"
                )
        if len(shapes) == 1:
            return TensorType(shapes[0], whole.dtype)
        first = shapes[0]
        length = sum(shape[self.axis] for shape in shapes)
        return TensorType((*first[: self.axis], length, *first[self.axis + 1 :]), whole.dtype)

    def _across(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape without the axis along which parts are stacked."""
        return (*shape[: self.axis], *shape[self.axis + 1 :])

    def __str__(self) -> str:
        """As it stands in a graph's text."""
        if self.kind == "weight":
            shown = " ".join(_part_text(p) for p in self.parts)
            return f"weight {shown}" + (f" axis={self.axis}" if self.axis else "")
        values = f" ({', '.join(map(repr, self.values))})" if self.kind == "constant" else ""
        return f"{self.kind} {quoted(self.name)}{values}"


def _part_text(part: Part) -> str:
    return quoted(part.name) + str(part).removeprefix(part.name)


def quoted(text: str) -> str:
    """`text` between quotes, as Python reads it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped) + '"'
