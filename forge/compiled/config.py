"""A model as the compiler takes it, from its file."""

from __future__ import annotations

from forge.errors import FileFormatError
from forge.gguf import GGUFFile
from forge.models import Model, architecture


def read_model(gguf: GGUFFile) -> Model:
    """The model in a GGUF file: its configuration, vocabulary and tensors, checked. Nothing is loaded."""
    tensors = {name: t.type for name, t in gguf.tensors.items()}
    model = architecture(gguf.architecture).model(gguf.metadata, tensors, str(gguf.path))
    tokens = len(gguf.get("tokenizer.ggml.tokens", list, []))
    if tokens > model.vocab:
        raise FileFormatError(
            f"the tokenizer has {tokens} tokens, and token_embd.weight rows for {model.vocab}", where=model.source
        )
    return model
