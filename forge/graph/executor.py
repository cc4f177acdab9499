"""Where ops run that are called on tensors: the one upward link, `executor.run`, resolved by name at the first call.

It is an attribute of a module, which torch.compile reads while it traces a call; an import it could not trace.
"""

from __future__ import annotations

import importlib
from typing import Any

HOME = "forge.lower.tensors", "run"


def __getattr__(name: str) -> Any:
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = HOME
    globals()[name] = getattr(importlib.import_module(module), function)
    return globals()[name]
