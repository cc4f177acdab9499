"""Text comes back from ids, whole or in a stream, and no stream ever shows half a character."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizer.vocabularies import of_metadata, sentencepiece_metadata, tiny_code, with_tokens

from forge.errors import UsageError

pytestmark = pytest.mark.null

HARD = st.sampled_from(["👨‍👩‍👧", "e\u0301", "🏳️‍🌈", "\u200d", "한", "\ufeff", " ", "\n", "a", "\x00", "\U0010ffff"])
TEXT = st.lists(HARD | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=12).map("".join)
TOKENIZERS = ("llama-bpe", "default", "sentencepiece")


def made(name):
    return of_metadata(sentencepiece_metadata()) if name == "sentencepiece" else tiny_code(name)


@cache
def byte_tokens(tokenizer):
    return [i for i in range(tokenizer.vocab_size) if len(tokenizer.token_bytes(i)) == 1]


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return made(request.param)


@settings(max_examples=120, deadline=None)
@given(text=TEXT)
@example(text="<|bos|>")
@example(text="\u2581")
def test_round_trip(tokenizer, text):
    """SentencePiece writes a space as U+2581, so it cannot tell one that was typed from a space."""
    ids = tokenizer.encode(text, parse_special=False)
    sentencepiece = tokenizer.vocabulary.model == "llama"
    assert tokenizer.decode(ids) == (text.replace("\u2581", " ") if sentencepiece else text)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), skip=st.booleans())
def test_a_stream_equals_decode(tokenizer, data, skip):
    """Over any ids at all: byte tokens make every kind of broken UTF-8."""
    token = (
        st.integers(0, tokenizer.vocab_size - 1) | st.sampled_from(byte_tokens(tokenizer)) | st.just(tokenizer.bos_id)
    )
    ids = data.draw(st.lists(token, max_size=40))
    stream = tokenizer.stream(skip_special=skip)
    shown = [stream.push(i) for i in ids]
    text = "".join(shown) + stream.flush()
    assert text == tokenizer.decode(ids, skip_special=skip)
    pieces = [b"" if skip and tokenizer.vocabulary.hidden(i) else tokenizer.token_bytes(i) for i in ids]
    if tokenizer.vocabulary.add_space_prefix and len(ids) > 1 and ids[0] == tokenizer.bos_id:
        pieces[1] = pieces[1].removeprefix(b" ")
    assert text == b"".join(pieces).decode("utf-8", "replace")


def test_a_stream_waits_for_the_whole_character():
    tokenizer = tiny_code()
    one = {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size) if len(tokenizer.token_bytes(i)) == 1}
    stream = tokenizer.stream()
    assert [stream.push(one[bytes([b])]) for b in "é🙂".encode()] == ["", "é", "", "", "", "🙂"]
    assert stream.push(one[b"\xf0"]) == "" and stream.flush() == "\ufffd"
    assert stream.push(one[b"a"]) == "a"  # a flushed stream starts anew


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_no_replacement_character_before_the_end(tokenizer, text):
    stream = tokenizer.stream()
    for i in tokenizer.encode(text, parse_special=False):
        assert "\ufffd" not in stream.push(i) or "\ufffd" in text


def test_special_tokens_show_only_when_asked():
    tokenizer = tiny_code()
    ids = tokenizer.encode("<|bos|>a<|eos|>", add_special=False)
    assert ids[0] == tokenizer.bos_id and ids[-1] == tokenizer.eos_id and len(ids) == 3
    assert tokenizer.decode(ids) == "a" and tokenizer.decode(ids, skip_special=False) == "<|bos|>a<|eos|>"


def test_kinds_of_tokens_decode_as_llama_cpp_does():
    tokenizer = with_tokens({"Ġuser": 4, "Ġword": 1, "<0x41>": 6, "gone": 5, "日": 1, "ctl": 3})
    first = tokenizer.vocab_size - 6
    pieces = [tokenizer.token_bytes(first + i).decode() for i in range(6)]
    assert pieces == ["Ġuser", " word", "A", "", "日", "ctl"]
    assert tokenizer.decode(range(first, first + 6)) == "Ġuser wordA日"


@pytest.mark.parametrize("token", [-1, 8192, 10**9])
def test_an_id_out_of_range_is_refused(token):
    for use in (lambda t: tiny_code().decode([t]), tiny_code().token_bytes, tiny_code().stream().push):
        with pytest.raises(UsageError, match=f"token id {token} is out of range; the vocabulary has 8192"):
            use(token)


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(UsageError, match="surrogate pair at position 1"):
        tiny_code().encode("a\ud83d")
