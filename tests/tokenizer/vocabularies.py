"""Tokenizers for tests: the shipped model's vocabulary under any pre-tokenizer, and small ones made on the spot."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from loading.gguf_draft import ARRAY, BOOL, F32, I32, STRING, U32, Draft, array, scalar, string, tiny_llama

from forge.gguf import GGUFFile
from forge.tokenizer import Tokenizer

DATA = Path(__file__).parent / "data"
MODEL = Path(__file__).parents[2] / "forge" / "assets" / "tiny-code-Q4_K_M.gguf"


def of_metadata(metadata: Mapping[str, Any]) -> Tokenizer:
    """A tokenizer of metadata as `GGUFFile` would hold them."""
    return Tokenizer.from_gguf(GGUFFile(Path("made-up.gguf"), MappingProxyType(dict(metadata)), {}))


@cache
def tiny_code(pre: str = "llama-bpe") -> Tokenizer:
    with GGUFFile.open(MODEL) as model:
        return of_metadata({**model.metadata, "tokenizer.ggml.pre": pre})


def tiny_metadata(**changes: Any) -> dict[str, Any]:
    """The metadata of a byte-level tokenizer with 262 tokens.

    In `changes` a key has __ for a dot; the value None leaves it out.
    """
    tokens = {"<|bos|>": 3, "<|eos|>": 3}
    entries = tiny_llama().entries
    found: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": _strings(entries["tokenizer.ggml.tokens"][1]),
        "tokenizer.ggml.merges": _strings(entries["tokenizer.ggml.merges"][1]),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }
    found["tokenizer.ggml.token_type"] = [tokens.get(t, 1) for t in found["tokenizer.ggml.tokens"]]
    for key, value in changes.items():
        found[key.replace("__", ".")] = value
    return {k: v for k, v in found.items() if v is not None}


def with_tokens(extra: Mapping[str, int], **changes: Any) -> Tokenizer:
    """The tiny tokenizer with more tokens, given with their kinds."""
    found = tiny_metadata(**changes)
    found["tokenizer.ggml.tokens"] = [*found["tokenizer.ggml.tokens"], *extra]
    found["tokenizer.ggml.token_type"] = [*found["tokenizer.ggml.token_type"], *extra.values()]
    return of_metadata(found)


def _strings(payload: bytes) -> list[str]:
    (count,), at, out = struct.unpack_from("<Q", payload, 4), 12, []
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", payload, at)
        out.append(payload[at + 8 : at + 8 + length].decode())
        at += 8 + length
    return out


def sentencepiece_draft(tokens: list[str], scores: list[float], types: list[int]) -> Draft:
    """A file with a SentencePiece vocabulary and nothing else."""
    draft = Draft()
    for key, kind, value in (
        ("general.architecture", STRING, "llama"),
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.tokens", ARRAY, array(STRING, [string(t) for t in tokens])),
        ("tokenizer.ggml.scores", ARRAY, array(F32, [scalar(F32, s) for s in scores])),
        ("tokenizer.ggml.token_type", ARRAY, array(I32, [scalar(I32, t) for t in types])),
        ("tokenizer.ggml.bos_token_id", U32, 1),
        ("tokenizer.ggml.eos_token_id", U32, 2),
        ("tokenizer.ggml.unknown_token_id", U32, 0),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
    ):
        draft = draft.set(key, kind, value)
    return draft


@cache
def sentencepiece_metadata() -> Mapping[str, Any]:
    """600 pieces, trained on source code; many share a score, so that ties count."""
    made = json.loads((DATA / "sentencepiece_vocabulary.json").read_text())
    return MappingProxyType(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": made["tokens"],
            "tokenizer.ggml.scores": made["scores"],
            "tokenizer.ggml.token_type": made["types"],
        }
    )
