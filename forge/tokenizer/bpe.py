"""The `tokenizers` package's BPE with llama.cpp's manners: merges may name tokens that the vocabulary lacks.

Such a merge takes part like any other. A piece that stands at the end and is no token is written by its bytes; a byte
that has no token is left out. In a byte-level vocabulary llama.cpp looks for the piece's own bytes, not for what
they stand for, so that of characters beyond ASCII, the space among them, nothing is left.
"""

from __future__ import annotations

from collections.abc import Mapping

from tokenizers import Regex
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import PreTokenizer, Sequence
from tokenizers.pre_tokenizers import Split as SplitBy

from forge.errors import TokenizerError
from forge.tokenizer.splits import Split
from forge.tokenizer.vocabulary import Vocabulary


class Merger:
    """Splits a text by the vocabulary's patterns and `after`, and merges. Immutable; any thread may use it."""

    def __init__(
        self, vocabulary: Vocabulary, words: Mapping[str, int], after: list[PreTokenizer], *, byte_fallback: bool
    ) -> None:
        self._words, split = words, vocabulary.split
        named = {part for left, right in vocabulary.merges for part in (left, right, left + right)}
        absent = [name for name in sorted(named) if name not in words]
        first = len(vocabulary.texts)
        self._written = {first + i: _bytes(name, words, byte_fallback) for i, name in enumerate(absent)}
        known = {**words, **{name: first + i for i, name in enumerate(absent)}}
        self._by_word = split.whole_words and bool(absent)  # a word may be a token, but not an absent one
        whole = split.whole_words and not absent
        self._backend = Backend(BPE(known, vocabulary.merges, ignore_merges=whole, byte_fallback=byte_fallback))
        self.splitter = Sequence([*_stages(split), *after])
        self._backend.pre_tokenizer = self.splitter

    def ids(self, text: str) -> list[int]:
        """Raises TokenizerError for a text on which the patterns give up."""
        try:
            found = self._of_words(text) if self._by_word else self._backend.encode(text, add_special_tokens=False).ids
        except BaseException as bad:
            if type(bad).__name__ != "PanicException":  # of Rust, and no Exception
                raise
            raise TokenizerError(
                f"a text of {len(text):,} characters cannot be split into words: {bad}",
                where=f"text {text[:40]!r}",
                remedy="break long runs of one kind of character",
            ) from None
        if not self._written:
            return list(found)
        return [token for i in found for token in self._written.get(i, (i,))]

    def _of_words(self, text: str) -> list[int]:
        found: list[int] = []
        for word, _ in self.splitter.pre_tokenize_str(text):
            token = self._words.get(word)
            found += [token] if token is not None else [piece.id for piece in self._backend.model.tokenize(word)]
        return found


def _stages(split: Split) -> list[PreTokenizer]:
    return [SplitBy(Regex(pattern), "isolated") for pattern in split.patterns]


def _bytes(name: str, words: Mapping[str, int], by_name: bool) -> list[int]:
    """The tokens of a piece's bytes, by their names <0xNN> or as they are."""
    texts = [f"<0x{b:02X}>" if by_name else chr(b) if b < 128 else "" for b in name.encode()]
    return [words[text] for text in texts if text in words]
