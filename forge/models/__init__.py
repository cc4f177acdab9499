"""Model architectures, one a file, named as GGUF's `general.architecture`."""

from __future__ import annotations

from collections.abc import Mapping

from forge.errors import UnsupportedError
from forge.models.architecture import Architecture, Model
from forge.registry import Registry

__all__ = ["ARCHITECTURES", "Architecture", "Model", "architecture", "load"]

ARCHITECTURES: Registry[Architecture] = Registry(Architecture, "architecture", package=__name__)


def load() -> Mapping[str, Architecture]:
    """Every architecture by its GGUF name."""
    return ARCHITECTURES


def architecture(name: str) -> Architecture:
    """The architecture called `name`. Raises UnsupportedError."""
    found = load().get(name)
    if found is None:
        raise UnsupportedError(f"the model's architecture is {name!r}", remedy=f"supported: {ARCHITECTURES.names()}")
    return found
