"""Faults 14: what is odd in a vocabulary and does no harm refuses no file; merges of absent tokens are as llama.cpp's.

The bound: special ids that nothing reads, of any value; merges whose parts or whole are no tokens, with and without
`whole_words`; texts on which the split's patterns give up.
"""

from __future__ import annotations

import warnings
from itertools import pairwise

import pytest
from tokenizer.vocabularies import of_metadata, tiny_code, tiny_metadata

from forge.errors import TokenizerError

pytestmark = pytest.mark.null

UNUSED = [
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_pre_token_id",
    "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.mask_token_id",
]


@pytest.mark.parametrize("value", [-1, 10**6, 2**32 - 1])
@pytest.mark.parametrize("key", UNUSED)
def test_a_special_id_that_nothing_uses_warns_at_most(key, value):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tok = of_metadata({**tiny_metadata(), key: value})
    assert all(f"{key} is {value}; the vocabulary has 262 tokens" in str(w.message) for w in told)
    assert tok.vocabulary.pad_id is None and tok.decode(tok.encode("hello")) == "hello"


@pytest.mark.parametrize(("add", "refused"), [(True, True), (False, False)])
def test_a_bos_out_of_range_is_refused_where_it_is_used(add, refused):
    metadata = tiny_metadata(tokenizer__ggml__bos_token_id=10**6, tokenizer__ggml__add_bos_token=add)
    if refused:
        with pytest.raises(TokenizerError, match="bos_token_id is 1000000"):
            of_metadata(metadata)
    else:
        with pytest.warns(RuntimeWarning, match="bos_token_id"):
            assert of_metadata(metadata).bos_id is None


@pytest.mark.parametrize("key", ["eos", "eot"])
def test_an_end_out_of_range_is_refused(key):
    with pytest.raises(TokenizerError, match=f"{key}_token_id is 1000000"):
        of_metadata(tiny_metadata(**{f"tokenizer__ggml__{key}_token_id": 10**6}))


def merged(ids: dict[str, int], merges: list[tuple[str, str]], word: str, whole: bool) -> list[int]:
    """llama.cpp's loop over one word in GPT-2's alphabet: the pair of the best rank, the leftmost first."""
    if whole and word in ids:
        return [ids[word]]
    ranks, symbols = {pair: i for i, pair in reversed(list(enumerate(merges)))}, list(word)
    while pairs := [(ranks[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]:
        _, i = min(pairs)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    out = []
    for symbol in symbols:
        if symbol in ids:
            out.append(ids[symbol])
        else:
            out += [ids[chr(b)] for b in symbol.encode() if b < 128 and chr(b) in ids]
    return out


@pytest.mark.parametrize("pre", ["llama-bpe", "gpt-2"])
@pytest.mark.parametrize(
    "extra",
    [
        ["q z"],
        ["zz qq"],
        ["z z", "zz q"],
        ["b c", "a bc", "c d", "abc d"],
        ["Ġ q", "Ġq z"],
        ["h q", "hel lo"],
    ],
)
def test_merges_that_name_absent_tokens_take_part_as_in_llama_cpp(pre, extra):
    metadata = tiny_metadata(tokenizer__ggml__pre=pre)
    metadata["tokenizer.ggml.merges"] = [*extra, *metadata["tokenizer.ggml.merges"]]
    tok = of_metadata(metadata)
    merges = [tuple(line.split(" ")) for line in metadata["tokenizer.ggml.merges"]]
    for text in ("qz", "zzqq", "zzq zz", "abcd", "abcabcd", "hello", " qz", "hq hello"):
        words = [word for word, _ in tok._encoder._merger.splitter.pre_tokenize_str(text)]
        expected = [i for w in words for i in merged(tok.vocabulary.ids, merges, w, pre == "llama-bpe")]
        assert tok.encode(text, add_special=False) == expected, text


@pytest.mark.filterwarnings("ignore")
def test_a_text_that_cannot_be_split_is_an_error_of_the_request(capfd):
    """Twelve million spaces end in a panic of the regular expressions, which `except Exception` does not see."""
    with pytest.raises(TokenizerError, match="cannot be split into words"):
        tiny_code().encode(" " * 12_000_000)
    capfd.readouterr()
