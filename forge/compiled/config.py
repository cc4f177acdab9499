"""A model's configuration, from its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forge.errors import FileFormatError
from forge.gguf import GGUFFile
from forge.models import architecture
from forge.models.decoder import Config


def read_config(gguf: GGUFFile) -> Config:
    """The hyperparameters of a GGUF file."""
    tensors: Mapping[str, Any] = {name: t.type for name, t in gguf.tensors.items()}
    config = architecture(gguf.architecture).config(gguf.metadata, tensors)
    tokens = len(gguf.get("tokenizer.ggml.tokens", list, []))
    if tokens > config.vocab:
        raise FileFormatError(
            f"the tokenizer has {tokens} tokens, and token_embd.weight rows for {config.vocab}", where=str(gguf.path)
        )
    return config
