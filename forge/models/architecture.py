"""What a model architecture is to the compiler: hyperparameters from metadata, and an op graph from those.

Metadata is read through `Hyperparameters`, which remembers what was read: a key of the model's namespace that nobody
read is an error, because a key that changes the mathematics must never be ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from forge.errors import FileFormatError, GraphError, UnsupportedError
from forge.graph.ir import Graph, Node
from forge.graph.types import TensorType
from forge.models.decoder import Config, Limits, Precision

T = TypeVar("T", int, float, bool, str)

# Keys that describe a model but do not enter its mathematics as we compute it.
DESCRIPTIVE = ("vocab_size", "rope.scaling.finetuned", "tensor_data_layout", "block_count_total", "feed_forward_type")


class Hyperparameters:
    """The metadata keys `<architecture>.*`. Not thread-safe: one is made for each model that is read."""

    def __init__(self, architecture: str, metadata: Mapping[str, Any]) -> None:
        self.architecture = architecture
        self._metadata = metadata
        self._read: set[str] = set()

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of `<architecture>.<key>`; without a default the key is required. Raises FileFormatError."""
        full = f"{self.architecture}.{key}"
        self._read.add(full)
        if full not in self._metadata:
            if default is None:
                raise FileFormatError(f"the metadata key {full} is missing", remedy="convert the model again")
            return default
        value = self._metadata[full]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise FileFormatError(f"the metadata key {full} holds {value!r:.80}, where a {kind.__name__} must stand")
        return value

    def size(self, key: str, default: int | None = None) -> int:
        """A count of at least one, and small enough to be one."""
        value = self.get(key, int, default)
        if not 1 <= value <= 1 << 24:
            raise FileFormatError(f"the metadata key {self.architecture}.{key} is {value}, which is no size of a model")
        return value

    def has(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self._metadata

    def refuse(self, key: str, neutral: Any, what: str) -> None:
        """Raise UnsupportedError if `key` is there with a value other than `neutral`."""
        full = f"{self.architecture}.{key}"
        self._read.add(full)
        if self._metadata.get(full, neutral) != neutral:
            raise UnsupportedError(
                f"{full} = {self._metadata[full]!r}: {what} is not supported for {self.architecture}"
            )

    def finish(self) -> None:
        """Raise UnsupportedError if a key of the namespace was not read."""
        prefix = f"{self.architecture}."
        left = [k for k in self._metadata if k.startswith(prefix) and k not in self._read]
        left = [k for k in left if k.removeprefix(prefix) not in DESCRIPTIVE]
        if left:
            raise UnsupportedError(
                f"the model has keys that Forge does not know, and so could compute wrongly: {', '.join(left)}",
                remedy=f"teach forge/models/{self.architecture}.py what they mean",
            )


@dataclass(frozen=True)
class Architecture:
    """A family of models: `configure(hyperparameters, tensors)` reads one, `build` gives its graph.

    `tiny` are the metadata (without the namespace) of a small instance, from which tests make a random model.
    """

    name: str
    configure: Callable[[Hyperparameters, Mapping[str, TensorType]], Config]
    build: Callable[[Config, Limits, Precision], Graph]
    tiny: Mapping[str, Any]

    def config(self, metadata: Mapping[str, Any], tensors: Mapping[str, TensorType]) -> Config:
        """Hyperparameters from a file's metadata and tensor types; every key is read or refused."""
        hyper = Hyperparameters(self.name, metadata)
        config = self.configure(hyper, tensors)
        hyper.finish()
        return config


def check_tensors(graph: Graph, tensors: Mapping[str, TensorType], source: str) -> None:
    """Every weight's parts are in the file and make its type, and every tensor of the file is used."""
    used: set[str] = set()
    for node in graph.leaves("weight"):
        for part in node.parts:
            used.add(part.name)
            if part.name not in tensors:
                raise FileFormatError(
                    f"the tensor {part.name} is missing", where=source, remedy="convert the model again"
                )
        want, have = node.types[0], _stacked(node, tensors, source)
        if want.shape != have.shape or want.dtype != have.dtype:
            raise FileFormatError(f"the tensor {node.name} is {have}; the model's keys make it {want}", where=source)
    left = [n for n in tensors if n not in used]
    if left:
        shown = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
        raise UnsupportedError(f"the model has tensors that nothing uses: {shown}", where=source)


def _stacked(node: Node, tensors: Mapping[str, TensorType], source: str) -> TensorType:
    """The type that a weight's parts make together, by the file's tensors."""
    assert node.leaf is not None
    axis, whole = node.leaf.axis, tensors[node.parts[0].name]
    length = 0
    for part in node.parts:
        type = tensors[part.name]
        try:
            shape = part.shape_in(type.concrete())
        except GraphError as error:
            raise FileFormatError(f"the tensor {part.name} is {type}: {error.what}", where=source) from error
        others = (*shape[:axis], *shape[axis + 1 :])
        if part is node.parts[0]:
            first = others
        if type.dtype != whole.dtype or others != first or axis >= len(shape):
            raise FileFormatError(f"{part} of {type} cannot stand beside {node.parts[0]} of {whole}", where=source)
        length += shape[axis]
    return TensorType((*first[:axis], length, *first[axis:]), whole.dtype)
