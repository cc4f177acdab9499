"""A file without `tokenizer.ggml.pre` (Faults 5): the split of a vocabulary that is known, else a warning.

The bound: known are the merge lists of `pre_tokenizer.KNOWN`, whole and in order, whatever tokens were added; any other
list, and an empty name as well as none, is split as llama.cpp splits it, by "default", with one warning.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from types import MappingProxyType

import pytest
from tokenizer.vocabularies import MODEL, of_metadata, sentencepiece_metadata, tiny_code

from forge.gguf import GGUFFile
from forge.tokenizer import Tokenizer, pre_tokenizer
from forge.tokenizer.splits import SPLITS

pytestmark = pytest.mark.null

TEXTS = ["def f(x):\n    return 1234567", " I'LL  take\n\n12 3", "camelCase日本"]
PACKAGED = os.environ.get("FORGE_LLAMA_CPP_VOCABULARIES")


def _metadata(**changes):
    with GGUFFile.open(MODEL) as model:
        metadata = dict(model.metadata)
    metadata.pop("tokenizer.ggml.pre")
    metadata.pop("tokenizer.ggml.add_bos_token", None)
    return metadata | {f"tokenizer.ggml.{key}": value for key, value in changes.items()}


@pytest.fixture
def known(monkeypatch):
    """The shipped vocabulary as one of those known, as if it were Llama 3's."""
    merges = _metadata()["tokenizer.ggml.merges"]
    monkeypatch.setattr(pre_tokenizer, "KNOWN", {pre_tokenizer.digest(merges): "llama-bpe"})
    return merges


@pytest.mark.parametrize("name", [{}, {"pre": ""}])
def test_a_known_vocabulary_gets_its_own_split_and_bos(known, recwarn, name):
    metadata = _metadata(**name)
    tokens = [*metadata["tokenizer.ggml.tokens"], "<|added|>"]
    kinds = [*map(int, metadata["tokenizer.ggml.token_type"]), 3]
    tokenizer = of_metadata(metadata | {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds})
    for text in TEXTS:
        assert tokenizer.encode(text) == tiny_code("llama-bpe").encode(text)
    assert tokenizer.encode("")[0] == tokenizer.bos_id and not recwarn.list


@pytest.mark.parametrize("change", [lambda m: m[:-1], lambda m: [m[1], m[0], *m[2:]]], ids=["one less", "two swapped"])
def test_other_merges_are_another_vocabulary(known, change):
    with pytest.warns(RuntimeWarning, match=r"tokenizer\.ggml\.pre.*'default'"):
        assert of_metadata(_metadata(merges=change(known))).vocabulary.split == SPLITS["default"]


def test_an_unknown_vocabulary_is_split_as_llama_cpp_does_and_warned_of_once():
    with pytest.warns(RuntimeWarning) as seen:
        tokenizer = of_metadata(_metadata())
        assert [tokenizer.encode(text) for text in TEXTS] == [
            tiny_code("default").encode(text, add_special=False) for text in TEXTS
        ]
    assert len(seen) == 1


def test_a_name_and_sentencepiece_need_no_warning(recwarn):
    of_metadata(_metadata(pre="default"))
    of_metadata(sentencepiece_metadata())
    assert not recwarn.list


def test_the_known_names_are_splits():
    assert set(pre_tokenizer.KNOWN.values()) <= set(SPLITS) and all(len(key) == 64 for key in pre_tokenizer.KNOWN)


@pytest.mark.skipif(PACKAGED is None, reason="needs FORGE_LLAMA_CPP_VOCABULARIES: llama.cpp's folder models/, 76 MB")
def test_the_vocabularies_of_llama_cpp_are_known_and_give_its_ids():
    paths = sorted(Path(PACKAGED).glob("ggml-vocab-*.gguf.inp"))
    assert paths
    for path in paths:
        with GGUFFile.open(path.with_suffix("")) as gguf:
            if gguf.metadata["tokenizer.ggml.model"] == "bert":
                continue
            tokenizer = Tokenizer.from_gguf(gguf)
            texts = path.read_bytes().decode().split("\n__ggml_vocab_test__\n")
            for text, ids in zip(texts, path.with_suffix(".out").read_text().split("\n"), strict=False):
                found = tokenizer.encode(text, add_special=False, parse_special=False)
                assert found == [int(i) for i in ids.split()], (path.name, text)
            pre = gguf.metadata.get("tokenizer.ggml.pre")
            shared = ("qwen35", "mpt")  # with the vocabularies of Qwen2 and GPT-NeoX
            if gguf.metadata["tokenizer.ggml.model"] == "gpt2" and pre not in shared:
                rest = {k: v for k, v in gguf.metadata.items() if k != "tokenizer.ggml.pre"}
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    found = pre_tokenizer.split_of(GGUFFile(path, MappingProxyType(rest), {}), "gpt2")
                assert found == SPLITS[pre], path.name
