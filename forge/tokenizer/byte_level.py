"""Byte-level BPE: split a text into words, write their bytes in GPT-2's alphabet, merge by rank."""

from __future__ import annotations

from tokenizers import Regex
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence
from tokenizers.pre_tokenizers import Split as SplitBy

from forge.errors import TokenizerError
from forge.tokenizer.byte_alphabet import CHARACTER_OF
from forge.tokenizer.vocabulary import Kind, Vocabulary


class ByteLevelEncoder:
    """Encodes text that holds no special tokens. Immutable; any thread may use it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        merged = {part for pair in vocabulary.merges for part in pair}
        merged.update(left + right for left, right in vocabulary.merges)
        # A word of plain text must never become a control token, so those take no part.
        words = {
            text: i
            for text, i in vocabulary.ids.items()
            if text in merged or vocabulary.kinds[i] not in (Kind.CONTROL, Kind.UNKNOWN)
        }
        split = vocabulary.split
        self._backend = Backend(BPE(vocab=words, merges=vocabulary.merges, ignore_merges=split.whole_words))
        stages: list[PreTokenizer] = [SplitBy(Regex(pattern), "isolated") for pattern in split.patterns]
        self._backend.pre_tokenizer = Sequence([*stages, ByteLevel(add_prefix_space=False, use_regex=False)])
        self._absent = frozenset(b for b, character in enumerate(CHARACTER_OF) if character not in words)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`. Raises TokenizerError for a byte that the vocabulary cannot write."""
        if self._absent and (lost := self._absent.intersection(text.encode())):
            raise TokenizerError(
                f"the vocabulary has no token for the byte 0x{min(lost):02X}",
                where=f"text {text!r:.60}",
                remedy="leave the character out; the model was not trained on it",
            )
        return list(self._backend.encode(text, add_special_tokens=False).ids)
