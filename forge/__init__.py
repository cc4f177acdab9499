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
    from forge import kernels as kernels
    from forge.api import LLM as LLM
    from forge.api import compile as compile
    from forge.api import compile_graph as compile_graph
    from forge.extensions import register as register
    from forge.graph.ir import Graph as Graph
    from forge.graph.op import Case as Case
    from forge.graph.op import Cost as Cost
    from forge.graph.op import Space as Space
    from forge.graph.op import expect as expect
    from forge.graph.op import op as op
    from forge.graph.types import DType as DType
    from forge.graph.types import Sym as Sym
    from forge.graph.types import TensorType as TensorType
    from forge.graph.types import tensor as tensor
    from forge.language import jit as jit
    from forge.language import tl as tl
    from forge.runtime.output import CompletionOutput as CompletionOutput
    from forge.runtime.output import RequestOutput as RequestOutput
    from forge.runtime.params import SamplingParams as SamplingParams

__version__ = "0.1.0"

_HOMES = {
    "forge.api": ("LLM", "compile", "compile_graph"),
    "forge.errors": ("ForgeError",),
    "forge.extensions": ("register",),
    "forge.graph.ir": ("Graph",),
    "forge.graph.op": ("Case", "Cost", "Space", "expect", "op"),
    "forge.graph.types": ("DType", "Sym", "TensorType", "tensor"),
    "forge.language": ("jit", "tl"),
    "forge.runtime.output": ("CompletionOutput", "RequestOutput"),
    "forge.runtime.params": ("SamplingParams",),
}
_MODULES = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [
    "LLM", "Case", "CompletionOutput", "Cost", "DType", "ForgeError", "Graph", "RequestOutput", "SamplingParams",
    "Space", "Sym", "TensorType", "compile", "compile_graph", "expect", "jit", "kernels", "op", "register", "tensor",
    "tl",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "kernels":
        return importlib.import_module("forge.kernels")
    if name not in _MODULES:
        raise AttributeError(f"module 'forge' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
