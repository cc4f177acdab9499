"""What the splits are known for, on vocabularies so large that each word is one token."""

from __future__ import annotations

import pytest
from tokenizer.vocabularies import tiny_code, with_tokens

from forge.tokenizer.byte_alphabet import BYTE_OF, CHARACTER_OF
from forge.tokenizer.splits import SPLITS

pytestmark = pytest.mark.null


def words(pre: str, text: str) -> list[str]:
    """The words that the split makes of `text`, before any merge."""
    pre_tokenizer = tiny_code(pre)._encoder._merger.splitter
    return [bytes(BYTE_OF[c] for c in word).decode() for word, _ in pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("llama-bpe", "1234567", ["123", "456", "7"]),
        ("qwen2", "1234", ["1", "2", "3", "4"]),
        ("gpt-2", "1234567", ["1234567"]),
        ("default", "1234567", ["123", "456", "7"]),
        ("smollm", " 12", [" ", "1", "2"]),
        ("tekken", "12", ["1", "2"]),
        ("llama-bpe", "I'LL don't", ["I", "'LL", " don", "'t"]),
        ("gpt-2", "I'LL don't", ["I", "'", "LL", " don", "'t"]),
        ("qwen2", "we're", ["we", "'re"]),
        ("llama-bpe", "a\n\n b", ["a", "\n\n", " b"]),
        ("llama-bpe", "a  \n  b", ["a", "  \n", " ", " b"]),
        ("gpt-2", "a \n b", ["a", " \n", " b"]),
        ("llama-bpe", "x = f(y);\n", ["x", " =", " f", "(y", ");\n"]),
        ("gpt-2", "x = f(y);\n", ["x", " =", " f", "(", "y", ");", "\n"]),
        ("llama-bpe", "   lead", ["  ", " lead"]),
        ("llama-bpe", "trail   ", ["trail", "   "]),
        ("qwen2", "日本語、です", ["日本語", "、です"]),
        ("llama-bpe", "déjà vu", ["déjà", " vu"]),
        ("tekken", "camelCaseHTTP", ["camel", "Case", "HTTP"]),
        ("default", "a+b==c", ["a", "+", "b", "==", "c"]),
    ],
)
def test_words(pre, text, expected):
    assert words(pre, text) == expected


@pytest.mark.parametrize("pre", [name for name, split in SPLITS.items() if not split.raw])
def test_no_split_loses_a_character(pre):
    text = "".join(map(chr, range(1, 0x250))) + " \n\t  x'S 12345 日本 \u0903\u093f 🙂\r\n\u2028 "
    assert "".join(words(pre, text)) == text


@pytest.mark.parametrize(("pre", "whole"), [("llama-bpe", True), ("tekken", True), ("qwen2", False), ("dbrx", False)])
def test_a_word_that_is_a_token_needs_no_merges_where_llama_cpp_ignores_them(pre, whole):
    tokenizer = with_tokens({"Ġword": 1}, tokenizer__ggml__pre=pre)
    ids = tokenizer.encode(" word", add_special=False)
    assert (ids == [tokenizer.vocab_size - 1]) is whole and tokenizer.decode(ids) == " word"


def test_the_alphabet_names_each_byte_once():
    assert len(set(CHARACTER_OF)) == 256 and all(c.isprintable() and not c.isspace() for c in CHARACTER_OF)
    assert [BYTE_OF[c] for c in "AĠĊ\u0143"] == [0x41, 0x20, 0x0A, 0xAD]
