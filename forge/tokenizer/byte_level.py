"""BPE: split a text into words, write them in bytes (GPT-2's alphabet) or characters, and merge by rank."""

from __future__ import annotations

import re

from tokenizers.pre_tokenizers import ByteLevel

from forge.errors import TokenizerError
from forge.tokenizer.bpe import Merger
from forge.tokenizer.byte_alphabet import CHARACTER_OF
from forge.tokenizer.vocabulary import SPACE, WHITESPACE, Kind, Vocabulary

_LINES = re.compile(r"[^\n]+|\n+")
_WHITE_SPACE = re.compile(r"[^\S\x1c-\x1f]+")  # Unicode's; Python counts four separators of ASCII too


class ByteLevelEncoder:
    """Encodes text that holds no special tokens. Immutable; any thread may use it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        words = _words(vocabulary)
        to_bytes = ByteLevel(add_prefix_space=False, use_regex=False)
        self._merger = Merger(vocabulary, words, [to_bytes], byte_fallback=False)
        self._absent = frozenset(b for b, character in enumerate(CHARACTER_OF) if character not in words)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`. Raises TokenizerError for a byte that the vocabulary cannot write."""
        if self._absent and (lost := self._absent.intersection(text.encode())):
            raise _lost(min(lost), text)
        return self._merger.ids(text)


class RawEncoder:
    """The same with tokens of characters, not of bytes; a character without a token is written <0xNN> byte by byte."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._words, self._split = _words(vocabulary), vocabulary.split
        self._parted, self._lowercase = vocabulary.model == WHITESPACE, vocabulary.lowercase
        self._merger = Merger(vocabulary, self._words, [], byte_fallback=True)
        self._absent = frozenset(b for b in range(256) if f"<0x{b:02X}>" not in self._words)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`. Raises TokenizerError for a character with neither a token nor bytes."""
        if self._lowercase:
            text = "".join(c.lower()[0] for c in text)  # one for one: of a lower case of two the first
        if self._parted:
            return [token for word in _WHITE_SPACE.split(text) for token in self._encode(word)]
        return self._encode(text)

    def _encode(self, text: str) -> list[int]:
        if self._split.visible_space:
            text = text.replace(" ", SPACE)
        for character in set(text) - self._words.keys() if self._absent else ():
            if lost := self._absent.intersection(character.encode()):
                raise _lost(min(lost), text)
        if not self._split.whole_lines:
            return self._merger.ids(text)
        out: list[int] = []
        for line in _LINES.findall(text):
            token = self._words.get(line) if line[0] == "\n" else None
            out += self._merger.ids(line) if token is None else [token]
        return out


def _words(vocabulary: Vocabulary) -> dict[str, int]:
    """The tokens that words are made of. Plain text must never become a control token, so those take no part."""
    merged = {part for pair in vocabulary.merges for part in pair}
    merged.update(left + right for left, right in vocabulary.merges)
    return {
        text: i
        for text, i in vocabulary.ids.items()
        if text in merged or vocabulary.kinds[i] not in (Kind.CONTROL, Kind.UNKNOWN)
    }


def _lost(byte: int, text: str) -> TokenizerError:
    return TokenizerError(
        f"the vocabulary has no token for the byte 0x{byte:02X}",
        where=f"text {text!r:.60}",
        remedy="leave the character out; the model was not trained on it",
    )
