"""What `forge.compile` and `forge.compile_graph` are given, judged: the one place that checks their arguments.

Each function takes an argument as the caller gave it and returns what it means, or raises a UsageError that names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forge.arguments import count, shown, wrong
from forge.compiled.source import TensorSource
from forge.errors import UsageError
from forge.gguf import GGUFFile
from forge.graph.ir import Graph
from forge.lower.device import Device
from forge.lower.devices import find
from forge.target import DeviceTarget

DEFAULT_CONTEXT = 8192  # tokens, where the model allows more and the caller names none
LARGEST = 1 << 20  # of any count


@dataclass(frozen=True)
class Sizes:
    """What a model can hold. A step has at least a token for each sequence, and no more logits than tokens."""

    context: int
    max_tokens: int
    max_seqs: int
    max_logits: int
    page_size: int


def model_of(model: Any) -> GGUFFile:
    """A model file, opened unless it is open already. Raises FileFormatError for what is no GGUF file."""
    if isinstance(model, GGUFFile):
        return model
    if isinstance(model, Graph):
        raise UsageError("a model file was expected, and this is a Graph", remedy="forge.compile_graph(graph, ...)")
    if not isinstance(model, (str, os.PathLike)):
        raise wrong("model", model, "the path of a GGUF file, or a GGUFFile")
    if not os.fspath(model) or "\0" in os.fsdecode(model):
        raise UsageError(f"model={shown(model)} is no path", remedy="the path of a GGUF file, or a GGUFFile")
    return GGUFFile.open(model)


def graph_of(graph: Any) -> Graph:
    """An op graph."""
    if isinstance(graph, Graph):
        return graph
    if isinstance(graph, (str, os.PathLike, GGUFFile)):
        raise UsageError("a Graph was expected, and this is a model file", remedy="forge.compile(model, ...)")
    raise wrong("graph", graph, "a forge.graph.ir.Graph")


def device_of(target: Any) -> Device:
    """The device that is compiled for. Raises what `find` raises."""
    if not isinstance(target, (str, DeviceTarget)) and not callable(getattr(target, "prepare", None)):
        raise wrong("target", target, "a name such as 'auto', 'cpu', 'gpu:1', 'gfx1100' or 'emulated:gfx1100'")
    return find(target)


def dtype_of(dtype: Any, target: DeviceTarget) -> str:
    """The element type that kernels multiply."""
    return _one_of("dtype", dtype, ("bf16", "f32") if target.kind == "cpu" else ("f16",), target)


def activations_of(activations: Any, target: DeviceTarget) -> str:
    """What activations become before quantized weights."""
    return _one_of("activations", activations, ("float",) if target.kind == "cpu" else ("a16", "a8", "float"), target)


def kv_of(kv: Any, act: str, target: DeviceTarget) -> str:
    """The element type of the KV pages; `act` is that of what kernels multiply."""
    names = {"auto": act, "f16": "f16", "bf16": "bf16", "int8": "i8", "fp8": "e4m3"}
    return names[_one_of("kv", kv, tuple(names), target)]


def memory_of(memory: Any) -> int | None:
    """Bytes that may be used; None for all that are free."""
    return None if memory is None else count("memory", memory, 1, 2**63 - 1)


def sizes_of(given: Mapping[str, Any], longest: int, target: DeviceTarget) -> Sizes:
    """The sizes that were `given` by the names of `Sizes`, or None each, of a model made for `longest` tokens."""
    counts = {name: count(name, value, 1, LARGEST) for name, value in given.items() if value is not None}
    context = counts.get("context", min(longest, DEFAULT_CONTEXT))
    if context > longest:
        raise UsageError(f"context={context}; the model was made for {longest} tokens")
    tokens, seqs = (512, 16) if target.kind == "cpu" else (2048, 64)
    max_seqs = counts.get("max_seqs", min(seqs, counts.get("max_tokens", seqs)))
    max_tokens = counts.get("max_tokens", max(tokens, max_seqs))
    if max_tokens < max_seqs:
        raise UsageError(f"max_tokens={max_tokens} leaves no token for each of max_seqs={max_seqs} sequences")
    max_logits = counts.get("max_logits", max_seqs)
    if max_logits > max_tokens:
        raise UsageError(f"max_logits={max_logits} is more than the max_tokens={max_tokens} of a step")
    return Sizes(context, max_tokens, max_seqs, max_logits, counts.get("page_size", 16))


def weights_of(weights: Any, graph: Graph) -> TensorSource:
    """The tensors that a graph's weights are made of; those that are given have the type that the graph says."""
    if weights is not None and not isinstance(weights, Mapping):
        raise wrong("weights", weights, "a mapping from tensors' names to tensors")
    source = TensorSource(weights or {})
    leaves = list(graph.leaves("weight"))
    known = {part.name for leaf in leaves for part in leaf.parts}
    if unknown := [str(name) for name in source.tensors if name not in known]:
        raise UsageError(
            f"weights={{{', '.join(unknown)}}}: no weight of {graph.name} is made of that",
            remedy=f"one of: {', '.join(sorted(known)) or 'none'}",
        )
    for leaf in leaves:
        source.check(leaf)
    return source


def _one_of(name: str, value: Any, choices: tuple[str, ...], target: DeviceTarget) -> str:
    if value is None:
        return choices[0]
    if not isinstance(value, str) or value not in choices:
        raise UsageError(f"{name}={shown(value)} on {target}", remedy=f"one of: {', '.join(choices)}")
    return value
