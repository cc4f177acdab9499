"""A small random model of each architecture, from its metadata and the tensors that its parts declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forge.compiled import CompiledModel
from forge.graph.types import TensorType
from forge.models import Model, architecture
from forge.models.instance import RandomWeights
from forge.target import TARGETS

VOCAB = 256


def spaced(name: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as a file of the architecture has them."""
    return {f"{name}.{key}": value for key, value in keys.items()}


def tensors_of(name: str, keys: Mapping[str, Any], *, optional=("output.weight",)) -> dict[str, TensorType]:
    """The tensors that a file with these metadata holds."""
    kinds = {"token_embd.weight": "f16"}
    return architecture(name).tensors(spaced(name, keys), VOCAB, kinds=kinds, optional=optional)


def described(name: str, keys: Mapping[str, Any], tensors: Mapping[str, TensorType] | None = None) -> Model:
    """The model that a file with these metadata and tensors holds; `keys` are without the namespace."""
    return architecture(name).model(spaced(name, keys), tensors or tensors_of(name, keys), "a file")


def tiny_model(name: str, keys: Mapping[str, Any], tensors: Mapping[str, TensorType] | None = None) -> CompiledModel:
    """A compiled random model on the CPU in f32."""
    model = described(name, keys, tensors)
    limits = {"context": 64, "max_tokens": 48, "max_seqs": 8, "max_logits": 48, "page_size": 4, "memory": 1 << 30}
    weights = RandomWeights(model.tensors)
    return CompiledModel(model, weights, TARGETS["cpu"], act="f32", activations="float", **limits)
