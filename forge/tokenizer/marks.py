"""Texts of special tokens in what users give, marked so that they stay text: special tokens are the template's alone.

A mark is a character that occurs nowhere in what is given. It is put behind the first character of each special token's
text, goes through the template with it, and is taken out when the prompt has been cut at its special tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from forge.errors import UsageError

_MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # Unicode's noncharacters, meant for uses like this


class Marker:
    """Marks the texts of `specials`, of two characters or more. Immutable."""

    def __init__(self, specials: Iterable[str]) -> None:
        texts = sorted((re.escape(text) for text in specials if len(text) > 1), key=len, reverse=True)
        self._starts = re.compile(f"(?s)(?=(?:{'|'.join(texts)}))(.)") if texts else None

    def mark(self, given: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
        """`given` with its texts marked, and the mark; "" where there is nothing to mark. Raises UsageError."""
        starts = self._starts
        if starts is None or not any(starts.search(text) for text in _texts(given)):
            return given, ""
        used = list(_texts(given))
        mark = next((m for m in _MARKS if not any(m in text or _escaped(m) in text for text in used)), None)
        if mark is None:
            raise UsageError(
                "the messages hold the text of a special token and every noncharacter of Unicode",
                remedy="leave out U+FDD0 to U+FDEF",
            )
        return _mapped(given, lambda text: starts.sub(rf"\1{mark}", text)), mark


def restored(prompt: str, mark: str) -> str:
    """`prompt` with the marks as they were where the template has written them as escapes."""
    return prompt.replace(_escaped(mark), mark) if mark else prompt


def _escaped(mark: str) -> str:
    """The mark as JSON in ASCII, and Python, write it."""
    return json.dumps(mark)[1:-1]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_mapped(key, change): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(item, change) for item in value]
    return value
