"""A text's fewest tokens: never more than it has, and found at once."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tokenizer.vocabularies import of_metadata, sentencepiece_metadata, tiny_code, with_tokens

from forge.tokenizer.special import Strip

pytestmark = pytest.mark.null

PIECES = ["def ", "\n", "    ", "x" * 40, " " * 90, "é", "😀", "\u2581" * 3, "<|user|>", "0", "the ", "=" * 20]


def _vocabularies():
    yield tiny_code()
    yield of_metadata(sentencepiece_metadata())
    yield with_tokens({"<|user|>": 3, "<|end|>": 3}, tokenizer__ggml__pre="llama-bpe", general__name="phi3")


@pytest.mark.parametrize("which", range(3))
def test_no_text_has_fewer(which):
    tokenizer = list(_vocabularies())[which]
    rng = np.random.default_rng(which)
    for _ in range(300):
        text = "".join(rng.choice(PIECES, rng.integers(0, 12)))
        assert tokenizer.fewest_tokens(text) <= len(tokenizer.encode(text, add_special=False)), repr(text)
    for token in tokenizer.vocabulary.texts:
        assert tokenizer.fewest_tokens(token) == 1


def test_white_space_that_a_token_swallows_does_not_count():
    tokenizer = with_tokens({"<|user|>": 3}, tokenizer__ggml__pre="llama-bpe")
    object.__setattr__(tokenizer.vocabulary, "strips", {tokenizer.vocabulary.ids["<|user|>"]: Strip.AFTER})
    text = "<|user|>" + " " * 1000 + "x"
    assert tokenizer.fewest_tokens(text) <= len(tokenizer.encode(text)) <= 5


def test_an_absurd_text_is_seen_at_once():
    tokenizer = tiny_code()
    started = time.perf_counter()
    assert tokenizer.fewest_tokens("x " * 5_000_000) > 10_000
    assert time.perf_counter() - started < 1
