"""Model architectures, one a file, named as GGUF's `general.architecture`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from forge.errors import UnsupportedError
from forge.models.architecture import Architecture


@cache
def load() -> Mapping[str, Architecture]:
    """Every architecture by its GGUF name."""
    found: dict[str, Architecture] = {}
    for module in pkgutil.iter_modules(__path__):
        contents = vars(importlib.import_module(f"{__name__}.{module.name}"))
        found |= {v.name: v for v in contents.values() if isinstance(v, Architecture)}
    return dict(sorted(found.items()))


def architecture(name: str) -> Architecture:
    """The architecture called `name`. Raises UnsupportedError."""
    found = load().get(name)
    if found is None:
        raise UnsupportedError(f"the model's architecture is {name!r}", remedy=f"supported: {', '.join(load())}")
    return found
