"""Text from tokens as they come, never half a character."""

from __future__ import annotations

import codecs
from collections.abc import Callable


class TextStream:
    """Turns ids into text one by one. What `push` and `flush` return, joined, is what `Tokenizer.decode` gives.

    The bytes of a UTF-8 character that is not whole yet are held back; bytes that can never become one turn into
    U+FFFD, as in `decode`. One owner, one thread.
    """

    def __init__(self, show: Callable[[int, bool], bytes], bos_id: int | None) -> None:
        """`show(token, after_bos)` gives the bytes to show; `after_bos`: the token before it is a leading bos."""
        self._show, self._bos_id = show, bos_id
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start, self._after_bos = True, False

    def push(self, token: int) -> str:
        """The text that `token` completes, "" if none."""
        raw = self._show(token, self._after_bos)
        self._after_bos = self._at_start and token == self._bos_id
        self._at_start = False
        return self._decoder.decode(raw)

    def flush(self) -> str:
        """The text of the bytes still held back. The stream then starts anew."""
        self._at_start, self._after_bos = True, False
        return self._decoder.decode(b"", final=True)
