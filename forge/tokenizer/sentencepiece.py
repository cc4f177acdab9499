"""SentencePiece BPE: merge neighbouring pieces, the highest score first, and write what is left in byte tokens.

The order is llama.cpp's and sentencepiece's: of all neighbours that together are a token, the pair with the highest
score, and of equal scores the leftmost. `tokenizers` merges by the rank of a pair, which cannot say "leftmost of equal
scores" where several pairs make one token; hence this loop is our own.
"""

from __future__ import annotations

import re
from functools import lru_cache
from heapq import heapify, heappop, heappush

from forge.errors import TokenizerError
from forge.tokenizer.vocabulary import SPACE, Vocabulary

_WORD = re.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+")
_SPACE_INSIDE = re.compile(f"[^{SPACE}]{SPACE}")
_CACHED_LENGTH = 32  # longer words rarely come again


class SentencePieceEncoder:
    """Encodes text that holds no special tokens. Immutable but for a cache of words; any thread may use it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids, self._scores = vocabulary.ids, vocabulary.scores
        self._bytes = [vocabulary.ids.get(f"<0x{b:02X}>") for b in range(256)]
        # No merge crosses a place that no token spans, so words may be merged, and remembered, one by one.
        self._by_words = not any(_SPACE_INSIDE.search(text) for text in vocabulary.ids)
        self._merge_cached = lru_cache(maxsize=1 << 15)(self._merge)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, no prefix added. Raises TokenizerError for a character with no token and no bytes."""
        escaped = text.replace(" ", SPACE)
        out: list[int] = []
        for word in _WORD.findall(escaped) if self._by_words else [escaped]:
            out += self._merge_cached(word) if len(word) <= _CACHED_LENGTH else self._merge(word)
        return out

    def _merge(self, word: str) -> tuple[int, ...]:
        ids, scores = self._ids, self._scores
        pieces: list[str] = list(word)  # "" once merged into the piece on its left
        count = len(pieces)
        before, after = list(range(-1, count - 1)), [*range(1, count), -1]
        heap: list[tuple[float, int, int, str]] = []

        def pair(left: int, right: int) -> tuple[float, int, int, str] | None:
            both = pieces[left] + pieces[right]
            token = ids.get(both)
            return None if token is None else (-scores[token], left, right, both)

        for i in range(count - 1):
            if (found := pair(i, i + 1)) is not None:
                heap.append(found)
        heapify(heap)
        while heap:
            _, left, right, both = heappop(heap)
            if not pieces[left] or not pieces[right] or pieces[left] + pieces[right] != both:
                continue  # one of the two has merged otherwise since
            pieces[left], pieces[right] = both, ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            for a, b in ((before[left], left), (left, after[left])):
                if a >= 0 and b >= 0 and (found := pair(a, b)) is not None:
                    heappush(heap, found)
        return tuple(token for piece in pieces if piece for token in self._write(piece))

    def _write(self, piece: str) -> list[int]:
        token = self._ids.get(piece)
        if token is not None:
            return [token]
        written = [self._bytes[b] for b in piece.encode()]
        found = [token for token in written if token is not None]
        if len(found) < len(written):
            raise TokenizerError(
                f"the vocabulary has no token for the character {piece!r}, nor for its bytes",
                remedy="leave the character out; the model was not trained on it",
            )
        return found
