"""A small random model of each architecture, from the metadata that its file gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from forge.compiled import CompiledModel
from forge.graph.types import TensorType, tensor
from forge.models import architecture
from forge.quant import random_blocks
from forge.target import TARGETS

VOCAB = 256
EXTRA = {"qwen2": ("bias",), "qwen3": ("norm",)}  # tensors beyond those of a plain decoder


def tensors_of(name: str, keys: Mapping[str, Any], *, tied: bool = False, kind: str = "q8_0") -> dict[str, TensorType]:
    """The tensors that a file of this architecture with these metadata holds."""
    d, f, heads = keys["embedding_length"], keys["feed_forward_length"], keys["attention.head_count"]
    width = keys.get("attention.key_length", d // heads)
    q, kv = heads * width, keys["attention.head_count_kv"] * width
    found = {"token_embd.weight": tensor("f16", VOCAB, d), "output_norm.weight": tensor("f32", d)}
    if not tied:
        found["output.weight"] = tensor(kind, VOCAB, d)
    for layer in range(keys["block_count"]):
        rows = {"attn_q": (q, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, q)}
        rows |= {"ffn_gate": (f, d), "ffn_up": (f, d), "ffn_down": (d, f)}
        found |= {f"blk.{layer}.{n}.weight": tensor(kind, *shape) for n, shape in rows.items()}
        found |= {f"blk.{layer}.{n}.weight": tensor("f32", d) for n in ("attn_norm", "ffn_norm")}
        if "bias" in EXTRA.get(name, ()):
            found |= {f"blk.{layer}.attn_{n}.bias": tensor("f32", rows[f"attn_{n}"][0]) for n in "qkv"}
        if "norm" in EXTRA.get(name, ()):
            found |= {f"blk.{layer}.attn_{n}_norm.weight": tensor("f32", width) for n in "qk"}
    return found


class RandomWeights:
    """A source of weights: what a GGUF file is to a loaded model."""

    def __init__(self, tensors: Mapping[str, TensorType]) -> None:
        generator = torch.Generator().manual_seed(1)
        self._raw = {n: random_blocks(t, generator, rms=0.2).view(-1, _row(t)) for n, t in tensors.items()}

    def raw(self, name: str) -> torch.Tensor:
        return self._raw[name]


def _row(type: TensorType) -> int:
    return type.dtype.size(type.concrete()[-1])


def tiny_model(name: str, keys: Mapping[str, Any], tensors: Mapping[str, TensorType] | None = None) -> CompiledModel:
    """A compiled random model on the CPU in f32; `keys` are metadata without the namespace."""
    tensors = tensors or tensors_of(name, keys)
    config = architecture(name).config({f"{name}.{k}": v for k, v in keys.items()}, tensors)
    limits = {"context": 64, "max_tokens": 48, "max_seqs": 8, "max_logits": 48, "page_size": 4, "memory": 1 << 30}
    return CompiledModel(config, RandomWeights(tensors), TARGETS["cpu"], act="f32", activations="float", **limits)
