"""Which tokens are special, where they are found in a text, and which end a generation."""

from __future__ import annotations

import pytest
from tokenizer.vocabularies import of_metadata, tiny_code, tiny_metadata, with_tokens

from forge.errors import TokenizerError, UnsupportedError
from forge.tokenizer.special import Strip, partition

pytestmark = pytest.mark.null


def test_ids_and_defaults_of_the_shipped_model():
    tokenizer = tiny_code()
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (0, 1, 8192)
    assert tokenizer.stop_ids == {1} and tokenizer.chat_template is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0, 74]),  # llama-bpe adds bos if nothing is said
        ({"tokenizer__ggml__pre": "qwen2"}, [74]),
        ({"tokenizer__ggml__pre": "qwen2", "tokenizer__ggml__add_bos_token": True}, [0, 74]),
        ({"tokenizer__ggml__add_bos_token": False}, [74]),
        ({"tokenizer__ggml__add_eos_token": True}, [0, 74, 1]),
    ],
)
def test_bos_and_eos(changes, expected):
    tokenizer = of_metadata(tiny_metadata(**changes))
    assert tokenizer.encode("H") == expected
    assert tokenizer.encode("H", add_special=False) == [74]


def test_typed_text_never_becomes_a_control_token():
    tokenizer = with_tokens({"<|im_end|>": 3, "<tool>": 4, "halt": 3})
    im_end, tool, halt = (tokenizer.vocab_size - i for i in (3, 2, 1))
    text = "a<|im_end|><tool>halt <|bos|>"
    assert {im_end, tool, halt, 0} <= set(tokenizer.encode(text, add_special=False))
    plain = tokenizer.encode(text, add_special=False, parse_special=False)
    assert tool in plain and not {im_end, halt, 0} & set(plain)  # user-defined tokens are text of their own
    assert tokenizer.decode(plain) == text


def test_the_longest_special_token_wins():
    assert partition("a<b><b>c>d", [("<b>c", 2), ("<b>", 1)]) == ["a", 1, 2, ">d"]
    assert partition("", [("x", 1)]) == [] and partition("xx", [("x", 1)]) == [1, 1]
    assert partition("x  \n yx", [("x", 1)], strips={1: Strip.AFTER}) == [1, "y", 1]
    tokenizer = with_tokens({"<|a|>": 3, "<|a|>b": 3})
    assert tokenizer.encode("<|a|>b<|a|>", add_special=False) == [tokenizer.vocab_size - 1, tokenizer.vocab_size - 2]


def test_phi_3_swallows_space_after_its_tokens():
    tokenizer = with_tokens({"<|user|>": 3}, general__name="Phi-3-mini")
    assert tokenizer.encode("<|user|> \n h", add_special=False) == [262, 2 + ord("h")]


@pytest.mark.parametrize(
    ("extra", "metadata", "stops"),
    [
        ({"<|im_end|>": 3, "<|eot_id|>": 3, "ordinary": 1}, {}, {"<|eos|>", "<|im_end|>", "<|eot_id|>"}),
        ({"<|im_end|>": 1}, {}, {"<|eos|>", "<|im_end|>"}),
        ({"halt": 3}, {"tokenizer__ggml__eot_token_id": 262}, {"<|eos|>", "halt"}),
        ({"halt": 3}, {"tokenizer__ggml__eom_token_id": 262}, {"<|eos|>", "halt"}),
        ({"halt": 3}, {"tokenizer__ggml__fim_pad_token_id": 262}, {"<|eos|>", "halt"}),
        ({"<|fim_pad|>": 3, "<|fim_prefix|>": 3, "<|repo_name|>": 3}, {}, {"<|eos|>", "<|fim_pad|>", "<|repo_name|>"}),
        ({"<|return|>": 3, "<|call|>": 3, "<|end|>": 3}, {}, {"<|eos|>", "<|return|>", "<|call|>"}),
        ({"<|end|>": 3}, {}, {"<|eos|>", "<|end|>"}),
        ({"</s>": 3, "<|tool_response>": 3}, {}, {"<|eos|>", "<|tool_response>"}),
        ({"halt": 3}, {"tokenizer__ggml__eos_token_id": None}, set()),
    ],
)
def test_what_ends_a_generation(extra, metadata, stops):
    tokenizer = with_tokens(extra, **metadata)
    assert {tokenizer.vocabulary.texts[i] for i in tokenizer.stop_ids} == stops


def test_an_end_marker_stored_as_text_is_a_control_token():
    tokenizer = with_tokens({"<|im_end|>": 1})
    assert tokenizer.decode([262]) == "" and tokenizer.encode("<|im_end|>", add_special=False) == [262]


def test_a_byte_that_the_vocabulary_lacks_is_an_error():
    found = tiny_metadata(tokenizer__ggml__merges=[])
    at = found["tokenizer.ggml.tokens"].index("Ġ")  # the space
    for key in ("tokens", "token_type"):
        found[f"tokenizer.ggml.{key}"] = [v for i, v in enumerate(found[f"tokenizer.ggml.{key}"]) if i != at]
    tokenizer = of_metadata(found)
    assert tokenizer.decode(tokenizer.encode("ab")) == "ab"
    with pytest.raises(TokenizerError, match="no token for the byte 0x20"):
        tokenizer.encode("a b")


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        ({"tokenizer__ggml__pre": "deepseek-v9"}, UnsupportedError, "the pre-tokenizer 'deepseek-v9'"),
        ({"tokenizer__ggml__model": "bert"}, UnsupportedError, "the tokenizer model 'bert'"),
        ({"tokenizer__ggml__eos_token_id": 262}, TokenizerError, "eos_token_id is 262; the vocabulary has 262"),
        ({"tokenizer__ggml__token_type": [6] * 262}, TokenizerError, "is not written <0xNN>"),
        (
            {"tokenizer__ggml__model": "llama", "tokenizer__ggml__scores": [float("nan")] * 262},
            TokenizerError,
            "number",
        ),
        (
            {"tokenizer__ggml__model": "llama", "tokenizer__ggml__token_type": None},
            TokenizerError,
            "token_type is miss",
        ),
    ],
)
def test_metadata_at_fault(changes, error, what):
    with pytest.raises(error, match=what) as caught:
        of_metadata(tiny_metadata(**changes))
    assert caught.value.where == "made-up.gguf" and caught.value.remedy
