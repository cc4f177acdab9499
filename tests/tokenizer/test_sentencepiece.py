"""SentencePiece BPE equals the `sentencepiece` package, on a model that the package trains here."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer.vocabularies import of_metadata, sentencepiece_metadata

from forge.errors import TokenizerError

pytestmark = pytest.mark.null

WORDS = "the cat sat on a mat and then the other cats sang of tensors tended tenderly; été, naïve, Grüße, привет мир"
PARTS = st.sampled_from([*"the cats on mÄé  \n\t▁日🙂\u0301м", "ten", "sat", " the", "tended"])
TEXTS = st.lists(PARTS, max_size=40).map("".join)


@pytest.fixture(scope="module")
def pair():
    sentencepiece = pytest.importorskip("sentencepiece", reason="the oracle: pip install sentencepiece")
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS.split()[i:]) for i in range(20)] * 3),
        model_writer=trained,
        vocab_size=380,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    oracle = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    ids = range(oracle.vocab_size())
    kinds = [2 if oracle.is_unknown(i) else 3 if oracle.is_control(i) else 6 if oracle.is_byte(i) else 1 for i in ids]
    ours = of_metadata(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": [oracle.id_to_piece(i) for i in ids],
            "tokenizer.ggml.scores": [oracle.get_score(i) for i in ids],
            "tokenizer.ggml.token_type": kinds,
        }
    )
    return oracle, ours


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_equals_sentencepiece(pair, text):
    oracle, ours = pair
    expected = oracle.encode(text)
    assert ours.encode(text, add_special=False, parse_special=False) == expected
    # The package drops the prefix that it added; ours does so after a bos.
    assert ours.decode([ours.bos_id, *expected]) == oracle.decode(expected)


def test_known_strings(pair):
    oracle, ours = pair
    for text in ("", " ", "the cat", "  the  cat ", "naïve Grüße", "日本語", "🙂", "x\x00y", "the" * 400, "a b\nc\td"):
        assert ours.encode(text) == [1, *oracle.encode(text)]


def test_splitting_into_words_changes_nothing():
    """A token that spans a space turns off the split into words; a vocabulary with such a one that never occurs."""
    plain = dict(sentencepiece_metadata())
    spanning = {
        **plain,
        "tokenizer.ggml.tokens": [*plain["tokenizer.ggml.tokens"], "Q▁Q"],
        "tokenizer.ggml.scores": [*plain["tokenizer.ggml.scores"], -1e9],
        "tokenizer.ggml.token_type": [*plain["tokenizer.ggml.token_type"], 1],
    }
    text = "  return self.position + the tensors, of the file  \n\nimport x" * 3
    whole, by_words = of_metadata(spanning), of_metadata(plain)
    assert by_words._encoder._by_words and not whole._encoder._by_words
    assert whole.encode(text) == by_words.encode(text)


def test_the_prefix_space_can_be_off():
    with_prefix = of_metadata(sentencepiece_metadata())
    without = of_metadata({**sentencepiece_metadata(), "tokenizer.ggml.add_space_prefix": False})
    assert with_prefix.encode("the") == without.encode(" the")
    assert with_prefix.decode(with_prefix.encode(" the")) == " the" == without.decode(without.encode(" the"))


def test_ids_without_a_bos_continue_a_text():
    tokenizer = of_metadata(sentencepiece_metadata())
    ids = tokenizer.encode("the file", add_special=False)
    assert tokenizer.decode(ids) == " the file" and tokenizer.decode([tokenizer.bos_id, *ids]) == "the file"


def test_a_character_that_cannot_be_written_is_an_error():
    found = dict(sentencepiece_metadata())
    keep = [i for i, t in enumerate(found["tokenizer.ggml.tokens"]) if t != "<0xE6>"]  # 日 is E6 97 A5
    for key in ("tokens", "scores", "token_type"):
        found[f"tokenizer.ggml.{key}"] = [found[f"tokenizer.ggml.{key}"][i] for i in keep]
    with pytest.raises(TokenizerError, match="no token for the character '月'"):
        of_metadata(found).encode("月")
