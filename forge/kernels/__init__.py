"""The ops, one a file: contract, oracle, kernels, tuning space, cost and cases.

`load()` finds every op by walking this folder; there is no list to edit.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from forge.graph.op import Op


@cache
def load() -> Mapping[str, Op]:
    """Every op by name. A file that does not import is reported as itself, not as a missing op."""
    found: dict[str, Op] = {}
    for module in pkgutil.iter_modules(__path__):  # a file or a folder an op
        contents = vars(importlib.import_module(f"{__name__}.{module.name}"))
        found |= {v.name: v for v in contents.values() if isinstance(v, Op)}
    return dict(sorted(found.items()))
