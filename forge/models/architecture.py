"""What a model architecture is to the compiler: a configuration from metadata, and an op graph from that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from forge.errors import FileFormatError, GraphError, UnsupportedError
from forge.graph.ir import Graph
from forge.graph.types import TensorType
from forge.models.builder import Builder, Inputs, Precision
from forge.models.keys import Keys, Size
from forge.models.parts.embedding import TABLE
from forge.models.weights import Declared, Weights
from forge.runtime.contract import Limits


@dataclass(frozen=True)
class Architecture:
    """A family of models: `configure(keys)` reads one's configuration, `build(builder, configuration)` makes its graph.

    The configuration is a dataclass of the architecture's own. `tiny` are the metadata (without the namespace) of a
    small instance, from which tests make a random model.
    """

    name: str
    configure: Callable[[Keys], Any]
    build: Callable[[Builder, Any], None]
    tiny: Mapping[str, Any]

    def model(self, metadata: Mapping[str, Any], tensors: Mapping[str, TensorType], source: str = "") -> Model:
        """A model from a file's metadata and tensor types; every key is read or refused. `source` is the file's name.

        Raises FileFormatError, UnsupportedError.
        """
        keys = Keys(self.name, metadata)
        try:
            config, context = self.configure(keys), keys.size("context_length")
            keys.finish()
        except (FileFormatError, UnsupportedError) as error:
            raise type(error)(error.what, where=error.where or source, remedy=error.remedy) from error
        table = tensors.get(TABLE)
        if table is None or table.rank != 2:
            raise FileFormatError(f"the tensor {TABLE} is missing or no matrix", where=source)
        return Model(self, config, Size(table.concrete()[0], f"the rows of {TABLE}"), context, dict(tensors), source)

    def tensors(
        self,
        metadata: Mapping[str, Any],
        vocab: int,
        *,
        matrices: str = "q8_0",
        kinds: Mapping[str, str] | None = None,
        optional: Collection[str] = (),
    ) -> dict[str, TensorType]:
        """The tensors that a file with these metadata holds, as the parts of the model declare them.

        Matrices are of the type `matrices`, or of their own in `kinds`, by name. `optional` names the tensors to have
        that a file may lack; of a layer's without its prefix.
        """
        graph, limits = Graph(self.name), Limits(1, 1, 1, 1, 1, 1)
        declared = Declared(graph, matrices=matrices, kinds=kinds or {}, optional=optional)
        inputs = Inputs.of(graph, limits)
        self.build(
            Builder(graph, declared, inputs, limits, Precision(), Size(vocab)),
            self.configure(Keys(self.name, metadata)),
        )
        return declared.types


@dataclass(frozen=True)
class Model:
    """A model to compile. All but `config` is what the compiler asks of any architecture.

    `vocab` is how many tokens it knows, `context` how many a sequence may reach, `tensors` are its file's by name and
    `source` names that file in messages.
    """

    architecture: Architecture
    config: Any
    vocab: Size
    context: int
    tensors: Mapping[str, TensorType]
    source: str = ""

    @property
    def name(self) -> str:
        """The architecture's name."""
        return self.architecture.name

    def graph(self, limits: Limits, precision: Precision) -> Graph:
        """The graph of one step. Raises FileFormatError, UnsupportedError if the file's tensors are not the model's."""
        graph = Graph(self.name)
        weights = Weights(graph, self.tensors, source=self.source)
        self.architecture.build(
            Builder(graph, weights, Inputs.of(graph, limits), limits, precision, self.vocab), self.config
        )
        check_tensors(graph, self.tensors, self.source)
        return graph


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
        assert node.leaf is not None
        want = node.types[0]
        try:
            have = node.leaf.made_of(tensors)
        except GraphError as error:
            raise FileFormatError(error.what, where=source) from error
        if want.shape != have.shape or want.dtype != have.dtype:
            raise FileFormatError(f"the tensor {node.name} is {have}; the model's keys make it {want}", where=source)
    left = [n for n in tensors if n not in used]
    if left:
        shown = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
        raise UnsupportedError(f"the model has tensors that nothing uses: {shown}", where=source)
