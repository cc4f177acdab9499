"""Stop strings across token boundaries: text is held back while it may still become part of one.

Which string ends the text does not depend on how the text was cut into tokens: it is the one that is complete first
(the longer one, when two end together).
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Feed text with `push` until `matched` is set. Invariant: no stop string can begin in text already given out."""

    __slots__ = ("_held", "_include", "_longest", "_stops", "matched")

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """The text that is now certain to belong to the output."""
        assert self.matched is None, "text after a stop string"
        if not self._stops:
            return text
        text = self._held + text
        found = [(text.index(stop) + len(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if found:
            end, _, self.matched = min(found)
            self._held = ""
            return text[: end if self._include else end - len(self.matched)]
        keep = self._undecided(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text held back: no more will come."""
        text, self._held = self._held, ""
        return text

    def _undecided(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        for length in range(min(len(text), self._longest - 1), 0, -1):
            end = text[len(text) - length :]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
