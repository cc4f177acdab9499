"""Forge: a kernel DSL and a model compiler for large language models on AMD GPUs.

    import forge
    llm = forge.LLM("model.gguf")
    print(llm.generate("def fib(n):")[0].outputs[0].text)

Importing this touches no device and reads no file: names are resolved when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forge.api import LLM as LLM
    from forge.api import compile as compile
    from forge.api import compile_graph as compile_graph
    from forge.runtime.output import CompletionOutput as CompletionOutput
    from forge.runtime.output import RequestOutput as RequestOutput
    from forge.runtime.params import SamplingParams as SamplingParams

__version__ = "0.1.0"

_HOMES = {
    "LLM": "forge.api",
    "compile": "forge.api",
    "compile_graph": "forge.api",
    "CompletionOutput": "forge.runtime.output",
    "RequestOutput": "forge.runtime.output",
    "SamplingParams": "forge.runtime.params",
    "ForgeError": "forge.errors",
}
__all__ = ["LLM", "CompletionOutput", "ForgeError", "RequestOutput", "SamplingParams", "compile", "compile_graph"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'forge' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
