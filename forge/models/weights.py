"""The tensors of a model's file as an architecture declares them: each by its name and its shape.

`Weights` takes them from a file and checks them against the declaration. `Declared` has no file: it writes down what is
declared, which is how a random instance of any architecture knows its tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from forge.errors import FileFormatError, GraphError
from forge.graph.ir import Graph, Value
from forge.graph.types import TensorType, tensor
from forge.models.keys import sources_of

W = TypeVar("W", bound="Weights")


@dataclass(frozen=True)
class Weights:
    """A file's tensors, by their `types`, that become weights of `graph`.

    They are asked for by name without `prefix`. Errors name the file as `source`.
    """

    graph: Graph
    types: Mapping[str, TensorType]
    prefix: str = ""
    source: str = ""

    def within(self: W, prefix: str) -> W:
        """The same tensors, those whose names go on from here with `prefix`."""
        return replace(self, prefix=self.prefix + prefix)

    def has(self, name: str) -> bool:
        """Whether the file has an optional tensor."""
        return self.prefix + name in self.types

    def matrix(self, name: str, rows: int, columns: int) -> Value:
        """A matrix [rows,columns] of any type that weights have. Raises FileFormatError naming the tensor."""
        return self._weight(name, rows, columns)

    def vector(self, name: str, length: int) -> Value:
        """f32[length]: a bias, or the weight of a norm. Raises FileFormatError naming the tensor."""
        return self._weight(name, length)

    def _weight(self, name: str, *shape: int) -> Value:
        full = self.prefix + name
        found = self.types.get(full)
        if found is None:
            raise self._refused(f"the tensor {full} is missing")
        if found.shape != shape:
            said = " and ".join(sources_of(*shape)) or f"the architecture {self.graph.name}"
            raise self._refused(f"the tensor {full} is {found}; {said} make it [{','.join(map(str, shape))}]")
        if len(shape) == 1 and found.dtype.name != "f32":
            raise self._refused(f"the tensor {full} is {found}; biases and weights of norms are f32")
        return self.graph.weight(full, found)

    def _refused(self, what: str) -> FileFormatError:
        return FileFormatError(what, where=self.source, remedy="convert the model again")


@dataclass(frozen=True)
class Declared(Weights):
    """The tensors that a file would need: `types` grows with each that is declared.

    Matrices are of the type `matrices`, or of their own in `kinds`. Of optional tensors those are there that `optional`
    names, without their layer's prefix.
    """

    types: dict[str, TensorType] = field(default_factory=dict)
    matrices: str = "q8_0"
    kinds: Mapping[str, str] = field(default_factory=dict)
    optional: Collection[str] = ()

    def has(self, name: str) -> bool:
        return name in self.optional

    def _weight(self, name: str, *shape: int) -> Value:
        kind = self.kinds.get(name, self.matrices) if len(shape) > 1 else "f32"
        made = tensor(kind, *map(int, shape))
        if self.types.setdefault(self.prefix + name, made) != made:
            raise GraphError(
                f"the tensor {self.prefix + name} is declared as {self.types[self.prefix + name]} and {made}"
            )
        return super()._weight(name, *shape)
