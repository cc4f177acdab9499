"""How each `tokenizer.ggml.pre` splits a text into words before byte-level BPE: regular expressions, applied in turn.

Each expression splits every piece of the one before into its matches and what lies between them. Names that llama.cpp
treats alike share a row. Source: llama.cpp's `llm_tokenizer_bpe` and `llama_vocab::impl::load`; the tests hold the ids
that llama.cpp gives for each row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from forge.tokenizer import patterns as p


@dataclass(frozen=True)
class Split:
    """`patterns` in Oniguruma's syntax. `whole_words`: a word that is a token is taken whole, whatever the merges.

    `add_bos` is the default of the row, `needs_bos` holds whatever the metadata say. With `raw` the tokens hold
    characters as they are, not bytes in GPT-2's alphabet, and a character without a token is written <0xNN> byte by
    byte; with `visible_space` a space is then "▁". `whole_lines`: a run of newlines that is a token is taken whole.
    `strip_before` names a special token that swallows the white space before it. `needs_merges`: a file without is
    refused.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False
    needs_bos: bool = False
    raw: bool = False
    visible_space: bool = False
    whole_lines: bool = False
    strip_before: str | None = None
    needs_merges: bool = True


def _rows(*rows: tuple[str, Split]) -> dict[str, Split]:
    return {name: split for names, split in rows for name in names.split()}


_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", p.GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")
_FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", p.GPT2, r"[0-9][0-9][0-9]")
_GEMMA4 = Split((p.LINES,), add_bos=True, needs_bos=True, raw=True, visible_space=True, whole_lines=True)

SPLITS: Mapping[str, Split] = MappingProxyType(
    _rows(
        ("default", Split(_DEFAULT)),
        (
            "gpt-2 phi-2 gigachat a.x-4.0 mellum exaone4 mpt olmo jais trillion granite-docling modern-bert jina-es "
            "jina-de jina-v1-en roberta-bpe",
            Split((p.GPT2,)),
        ),
        ("jina-v2-es jina-v2-de jina-v2-code", Split((p.GPT2,), strip_before="<mask>")),
        (
            "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
            Split((p.LLAMA3,), True, True),
        ),
        ("dbrx smaug-bpe chatglm-bpe", Split((p.LLAMA3,))),
        ("glm4 glm5", Split((p.LLAMA3,), True)),
        ("minicpm5", Split((r"\p{N}{1,3}", p.MINICPM5), True)),
        ("jais-2", Split((p.JAIS2,))),
        ("qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", Split((p.QWEN2,))),
        ("qwen35", Split((p.QWEN35,))),
        ("laguna", Split((p.LINES, p.QWEN2))),
        ("ufakzeka", Split((p.UFAKZEKA,))),
        ("bailingmoe bailingmoe2 llada-moe", Split((p.BAILING,))),
        ("seed-coder", Split((p.SEED,))),
        ("exaone-moe", Split((p.EXAONE_MOE,))),
        ("starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", Split((r"\p{N}", p.GPT2))),
        ("falcon", Split(_FALCON)),
        ("superbpe", Split((r"\p{N}+", *p.DIGITS_FROM_RIGHT))),
        ("poro-chat bloom gpt3-finnish", Split((p.BLOOM,))),
        ("viking", Split((p.BLOOM, r"\p{N}"))),
        ("chameleon", Split(p.CHAMELEON, add_bos=True)),
        ("tekken", Split((p.TEKKEN,), True, True)),
        ("gpt-4o llama4 kanana2 talkie minimax-m2", Split((p.GPT4O,))),
        ("granite-embed-multi-97m", Split((p.GRANITE,), True)),
        ("tiny_aya cohere2moe", Split((*p.NUMBERS_FROM_RIGHT, p.AYA))),
        ("youtu", Split((p.YOUTU_SCRIPTS, p.YOUTU), True)),
        ("deepseek-llm", Split((r"[\r\n]", p.DEEPSEEK_LETTERS, p.DEEPSEEK_SIGNS, r"\s+\z", p.HANGUL, r"\p{N}+"))),
        ("deepseek-coder", Split((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", p.HANGUL, r"\p{N}"))),
        ("deepseek-v3 hunyuan-dense joyai-llm hy_v4", Split((r"\p{N}{1,3}", p.KANA, p.DEEPSEEK3))),
        ("spark2_5", Split((r"\p{N}{1,3}", p.KANA, p.SPARK, r"\p{N}"))),
        ("kimi-k2", Split((p.KIMI,), needs_merges=False)),
        ("afmoe", Split((*p.NUMBERS_FROM_RIGHT, p.ASIAN, p.DEEPSEEK3))),
        ("gemma4 granite-embed-multi-311m", _GEMMA4),
        ("sarvam-moe", Split((p.LINES,), raw=True, visible_space=True)),
        ("whitespace", Split((r"\S+",), raw=True)),
    )
)
