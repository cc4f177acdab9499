"""Which split a file of BPE asks for; of a file that does not say, the one that belongs to its merges.

Converters wrote no `tokenizer.ggml.pre` before May 2024. A fine-tune may add tokens, but keeps the merges of the
vocabulary that it began with. Their whole list, in order, belongs to one tokenizer; no part of it is enough, since
Llama 3, Qwen and GPT-4 begin alike.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from forge.errors import UnsupportedError
from forge.gguf import GGUFFile
from forge.tokenizer.splits import SPLITS, Split
from forge.visible import visible

# By the SHA-256 of the merges, joined with newlines. Source: the vocabularies that come with llama.cpp, but for MPT's,
# whose merges are GPT-NeoX's too: llama.cpp splits those otherwise.
KNOWN: Mapping[str, str] = MappingProxyType(
    {
        "0cd100e0ab7dbd83c3b668a7cfb2aed1f63f2aec66dae6ec4b63de2c552bb82d": "llama-bpe",  # Llama 3
        "bbeef245f0b03a9613753068e5799c2496290005594c68f09eed68feedbe6d1f": "qwen2",
        "04e3597d7996f292ca9b8b7285ca4d58a6ae171ac47d73fc7140ceb0c7a6bbc0": "gpt-2",
        "1101bfa1f9e8faaa15ffbdd1ae5de6a48b1f1ec10e97795cb0d946ba34008cae": "command-r",
        "cb5bed793622288a0e1b699c5c4edad6ab40c361a3f52d3c645ae3f9806388e3": "deepseek-llm",
        "3c86e94c54c92cfe01551f9be25d55b07d2aed8826a04b4036b7a0adc9af6324": "deepseek-coder",
        "26a620e10c7991c8451a09d21f8313932eff101916c64a874c738ccd6b88736d": "falcon",
        "8715d8d6d92d1b0c267157f82cff55e0bfd0983ea256b42b7a16fc82873a2b67": "starcoder",
        "da302fc35c8c328471559ef6cba43496da6a050d2b7575ea633888611b2d0ac8": "refact",
    }
)


def split_of(gguf: GGUFFile, model: str) -> Split:
    """The split for the `tokenizer.ggml.model` of a file: some models have but one, others name it.

    Warns where the file does not name it and its merges are not known. Raises UnsupportedError for an unknown name.
    """
    name = model if model in SPLITS else gguf.get("tokenizer.ggml.pre", str, "") or _by_merges(gguf)
    split = SPLITS.get(name)
    if split is None:
        raise UnsupportedError(
            f"the pre-tokenizer {name!r} (tokenizer.ggml.pre)",
            where=str(gguf.path),
            remedy=f"use a model with one of: {', '.join(sorted(SPLITS))}",
        )
    return split


def digest(merges: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(merges).encode()).hexdigest()


def _by_merges(gguf: GGUFFile) -> str:
    """The pre-tokenizer of a file that names none: its vocabulary's own if that is known, else llama.cpp's default."""
    merges = gguf.get("tokenizer.ggml.merges", list, [])
    name = KNOWN.get(digest(merges)) if all(isinstance(merge, str) for merge in merges) else None
    if name is None:
        name = "default"
        warnings.warn(
            f"{visible(str(gguf.path))} does not say how text is split into words (tokenizer.ggml.pre), and its "
            f"vocabulary is none that Forge knows; the split {name!r} may give other tokens than the model was trained "
            "on, and no bos: convert the model again with a current converter",
            RuntimeWarning,
            stacklevel=1,
        )
    return name
