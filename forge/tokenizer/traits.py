"""What a chat template can do, found by rendering short conversations with it and looking at what comes out.

A template tells nobody which shapes it takes. Each trait costs a few renders when it is first asked for.
Source of the idea and of the conversations: llama.cpp's probing of templates (`common/chat`, minja).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import product
from typing import Any

from forge.errors import TokenizerError

_TEXT, _OTHER, _NAME, _KEY = "Zweierlei", "Dreierlei", "viererlei", "fuenferlei"  # no template has these words
_OBJECT = {_KEY: "x"}
_FORMS: tuple[Any, ...] = (_OBJECT, json.dumps(_OBJECT))

Render = Callable[[Mapping[str, Any]], str]


class Traits:
    """The traits of one template. `render` renders it with variables, and raises TokenizerError where it fails."""

    def __init__(self, source: str, render: Render, names: Callable[[], frozenset[str]]) -> None:
        self._source, self._render, self._names = source, render, names

    @cached_property
    def names(self) -> frozenset[str]:
        """The variables that the template reads."""
        return self._names()

    @cached_property
    def parts(self) -> bool:
        """Whether it shows content only if that is a list of parts."""
        return _TEXT not in self._try(_user(_TEXT)) and _TEXT in self._try(_user([{"type": "text", "text": _TEXT}]))

    @cached_property
    def system(self) -> bool:
        """Whether it shows a system message; so it is held where it shows no user message either."""
        system = {"role": "system", "content": self._content(_OTHER)}
        user = _user(self._content(_TEXT))
        return _OTHER in self._try(system, user) or _TEXT not in self._try(user)

    @property
    def developer(self) -> bool:
        """Whether it has the role of that name."""
        return "developer" in self._source

    @cached_property
    def nulls(self) -> bool:
        """Whether it shows tool calls only beside content that is None."""
        shown = (
            content is None
            for content, arguments in product(("", None), _FORMS)
            if _NAME in self._call(content, arguments)
        )
        return next(shown, False)

    @cached_property
    def objects(self) -> bool:
        """Whether arguments of tool calls are to be objects; else they are to be JSON, which it pastes as it is."""
        as_object, as_json = (_is_shown(self._call(None if self.nulls else "", form)) for form in _FORMS)
        return as_object or not as_json

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.parts else text

    def _call(self, content: str | None, arguments: Any) -> str:
        call = {"id": "call00001", "type": "function", "function": {"name": _NAME, "arguments": arguments}}
        answer = {"role": "assistant", "content": content, "tool_calls": [call]}
        return self._try(_user(self._content(_TEXT)), answer)

    def _try(self, *messages: Mapping[str, Any]) -> str:
        """What it makes of the messages; nothing where it fails."""
        try:
            return self._render({"messages": list(messages)})
        except TokenizerError:
            return ""


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _is_shown(text: str) -> bool:
    """Whether the arguments are there, neither as the text of a Python value nor as JSON within JSON."""
    return _KEY in text and f"'{_KEY}'" not in text and f'\\"{_KEY}' not in text
