"""How each `tokenizer.ggml.pre` splits a text into words before byte-level BPE: regular expressions, applied in turn.

Each expression splits every piece of the one before into its matches and what lies between them. Names that llama.cpp
treats alike share a row. Source: llama.cpp's `llm_tokenizer_bpe` and `llama_vocab::impl::load`; the tests hold the ids
that llama.cpp gives for each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Split:
    """`patterns` in Oniguruma's syntax. `whole_words`: a word that is a token is taken whole, whatever the merges."""

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False


_CONTRACTION = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}|{_TAIL}"
# Letters run from not-lower-case into not-upper-case, so that camelCase splits.
_TEKKEN_WORD = (
    r"[^\r\n\p{L}\p{N}]?((?=\p{L})[^a-z])*((?=\p{L})[^A-Z])+|[^\r\n\p{L}\p{N}]?((?=\p{L})[^a-z])+((?=\p{L})[^A-Z])*"
)
_TEKKEN = rf"{_TEKKEN_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _rows(*rows: tuple[str, Split]) -> dict[str, Split]:
    return {name: split for names, split in rows for name in names.split()}


SPLITS: Mapping[str, Split] = MappingProxyType(
    _rows(
        ("default", Split((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"))),
        ("gpt-2 phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion granite-docling", Split((_GPT2,))),
        ("llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", Split((_LLAMA3,), True, True)),
        ("dbrx smaug-bpe", Split((_LLAMA3,))),
        ("qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", Split((_QWEN2,))),
        ("starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", Split((r"\p{N}", _GPT2))),
        ("tekken", Split((_TEKKEN,), True, True)),
    )
)
