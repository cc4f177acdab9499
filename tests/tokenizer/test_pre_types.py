"""Every pre-tokenizer that llama.cpp knows (Faults 18): its words, its flags and, without GPT-2's alphabet, its ids.

The bound: all 91 names of llama.cpp's `llama_vocab::impl::load` (the source vendored by llama-cpp-python 0.3.36), and
the BPE models `gemma4` and `whitespace`. Letters first assigned by Unicode 16 are left out: llama.cpp knows Unicode 15.
`data/llama_cpp_words.json` holds the lengths, in characters, of the words that llama.cpp's own splitter makes of each
text; `data/llama_cpp_raw.json` the ids for a vocabulary of 684 tokens that was trained on these documents.
"""

from __future__ import annotations

import json
import time

import pytest
from tokenizer.vocabularies import DATA, of_metadata, tiny_code, with_tokens

from forge.errors import TokenizerError, UnsupportedError
from forge.tokenizer import Tokenizer
from forge.tokenizer.splits import SPLITS

pytestmark = pytest.mark.null

_WORDS = json.loads((DATA / "llama_cpp_words.json").read_text(encoding="utf-8"))
_RAW = json.loads((DATA / "llama_cpp_raw.json").read_text(encoding="utf-8"))
_RAW_NAMES = {"gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace"}
_NAMES = {name: row for row, names in _WORDS["names"].items() for name in names.split()}

# What `llama_vocab::impl::load` sets beside the pattern: bos by default; words that are tokens are taken whole.
_LLAMA3 = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"}
_BOS = _LLAMA3 | {"tekken", "chameleon"}
_WHOLE = _BOS - {"chameleon"} | {"minicpm5", "youtu", "glm4", "glm5", "granite-embed-multi-97m"}


def raw_tokenizer(pre: str, **changes: object) -> Tokenizer:
    special, rest = _RAW["tokens"][:5], _RAW["tokens"][5:]
    metadata = {
        "tokenizer.ggml.model": pre if pre in ("gemma4", "whitespace") else "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [*special, *(f"<0x{b:02X}>" for b in range(256)), *rest],
        "tokenizer.ggml.token_type": [3, 3, 3, 2, 3, *[6] * 256, *[1] * len(rest)],
        "tokenizer.ggml.merges": _RAW["merges"],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
    }
    return of_metadata(metadata | {key.replace("__", "."): value for key, value in changes.items()})


def test_all_91_names_are_asked_about():
    assert set(_NAMES) | _RAW_NAMES | {"default"} == set(SPLITS) and len(SPLITS) == 91


@pytest.mark.parametrize("name", _NAMES)
def test_words_are_llama_cpps(name):
    """Each name against its own row, so that none can slip into a row that splits otherwise."""
    splitter = tiny_code(name)._encoder._merger.splitter
    for text, lengths in zip(_WORDS["texts"], _WORDS["words"][_NAMES[name]], strict=True):
        assert [end - start for _, (start, end) in splitter.pre_tokenize_str(text)] == lengths, repr(text)


@pytest.mark.parametrize("name", sorted({row for row in _NAMES.values()}))
def test_long_runs_are_split_in_no_time(name):
    """40,000 characters of a kind; a pattern that looks to the end of the run at each place takes ten seconds."""
    splitter = tiny_code(name)._encoder._merger.splitter
    began = time.process_time()
    for run in (" ", "A", "a", "1", "!", "\u0301", "A1", "a "):
        splitter.pre_tokenize_str(run * (40_000 // len(run)))
    assert time.process_time() - began < 3


def test_bos_and_whole_words_are_those_of_llama_cpp():
    forced = {"gemma4", "granite-embed-multi-311m"}
    assert {name for name, split in SPLITS.items() if split.add_bos} == _BOS | forced
    assert {name for name, split in SPLITS.items() if split.whole_words} == _WHOLE
    assert {name for name, split in SPLITS.items() if split.needs_bos} == forced


@pytest.mark.parametrize("name", _RAW["rows"])
def test_ids_of_characters_are_llama_cpps(name):
    tokenizer = raw_tokenizer(name)
    for text, add, parse, ids in _RAW["rows"][name]:
        assert tokenizer.encode(text, add_special=add, parse_special=parse) == ids, repr(text)


@pytest.mark.parametrize("name", ["gemma4", "granite-embed-multi-311m", "sarvam-moe"])
def test_text_of_characters_comes_back(name):
    """Unless it holds a visible space of its own, which is read as a space."""
    tokenizer = raw_tokenizer(name)
    for text in _WORDS["texts"]:
        ids = tokenizer.encode(text, parse_special=False)
        assert tokenizer.decode(ids) == text and "".join(map(tokenizer.stream().push, ids)) == text
        assert tokenizer.fewest_tokens(text) <= len(ids)


def test_gemma_4_has_a_bos_whatever_the_file_says():
    assert raw_tokenizer("gemma4", tokenizer__ggml__add_bos_token=False).encode("a")[0] == 2
    assert raw_tokenizer("sarvam-moe", tokenizer__ggml__add_bos_token=False).encode("a")[0] != 2


def test_a_character_with_neither_token_nor_bytes_is_refused():
    tokens = [t.replace("<0xF0>", "no byte") for t in raw_tokenizer("gemma4").vocabulary.texts]
    types = [3, 3, 3, 2, 3, *(6 if t.startswith("<0x") else 1 for t in tokens[5:])]
    tokenizer = raw_tokenizer("gemma4", tokenizer__ggml__tokens=tokens, tokenizer__ggml__token_type=types)
    assert tokenizer.decode(tokenizer.encode("日é")) == "日é"
    with pytest.raises(TokenizerError, match="no token for the byte 0xF0"):
        tokenizer.encode("a 🙂")


def test_lower_case_is_one_for_one_and_only_where_asked_for():
    plain, lower = raw_tokenizer("whitespace"), raw_tokenizer("whitespace", tokenizer__ggml__normalizer__lowercase=True)
    assert lower.encode("İ THE\u3000ÉÀ") == plain.encode("i the éà") != plain.encode("İ THE\u3000ÉÀ")


@pytest.mark.parametrize("name", ["jina-v2-es", "jina-v2-de", "jina-v2-code"])
def test_a_mask_swallows_the_white_space_before_it(name):
    tokenizer = with_tokens({"<mask>": 3}, tokenizer__ggml__pre=name)
    mask = tokenizer.vocab_size - 1
    a, space, b = (tokenizer.encode(c)[-1] for c in "a b")
    assert tokenizer.encode("a \n<mask> b") == [a, mask, space, b]
    assert tokenizer.encode("a <mask>", parse_special=False)[:2] == [a, space]
    assert tokenizer.fewest_tokens(" " * 99 + "<mask>") == 1


def test_kimi_needs_no_merges_and_others_do():
    bytes_alone = with_tokens({}, tokenizer__ggml__pre="kimi-k2", tokenizer__ggml__merges=None)
    assert bytes_alone.decode(bytes_alone.encode("日 the")) == "日 the" and len(bytes_alone.encode("the")) == 3
    with pytest.raises(TokenizerError, match="merges is missing"):
        with_tokens({}, tokenizer__ggml__pre="qwen2", tokenizer__ggml__merges=None)


@pytest.mark.parametrize("model", ["bert", "t5", "rwkv", "plamo2", "hybriddna", "test", "none"])
def test_other_models_are_refused_by_name(model):
    with pytest.raises(UnsupportedError, match=f"the tokenizer model '{model}'"):
        with_tokens({}, tokenizer__ggml__model=model)


def test_another_name_is_refused_by_name():
    with pytest.raises(UnsupportedError, match="the pre-tokenizer 'nobody'"):
        with_tokens({}, tokenizer__ggml__pre="nobody")
