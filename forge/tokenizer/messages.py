"""A conversation as OpenAI's clients send it, made into what a chat template takes.

Templates are programs that paste what they are given: a list of parts, None or JSON within JSON comes out as the text
of a Python value. So contents become text, arguments of tool calls what the template pastes rightly, and messages of a
role that the template lacks go where they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from forge.arguments import shown
from forge.errors import UsageError

Message = dict[str, Any]
_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}  # by a part's type
_CONTENT = 'text, or a list of parts like {"type": "text", "text": "..."}'
_CALL = '{"type": "function", "function": {"name": "...", "arguments": "{...}"}}'


class Wants(Protocol):
    """What a template wants of its messages; see `forge.tokenizer.traits`."""

    @property
    def parts(self) -> bool: ...
    @property
    def objects(self) -> bool: ...
    @property
    def nulls(self) -> bool: ...
    @property
    def system(self) -> bool: ...
    @property
    def developer(self) -> bool: ...


def check_roles(messages: Sequence[Any]) -> None:
    """Raise UsageError for what is no message."""
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UsageError(
                f"messages[{i}] is {shown(message)}", remedy='a message looks like {"role": "user", "content": "..."}'
            )


def normal(messages: Sequence[Mapping[str, Any]], wants: Wants) -> list[Message]:
    """The messages as the template `wants` them; those that are given are not changed.

    Text parts are joined by a line's end, and content that is None or absent is no text. Arguments of tool calls may be
    JSON or an object. `developer` is another name of `system`, and a system message goes before the text of the next
    user message, where a template has no such role. Other keys that hold None are left out. Raises UsageError for a
    part that is no text, and for a tool call that is none.
    """
    made = [_message(f"messages[{i}]", message, wants) for i, message in enumerate(messages)]
    if any(m["role"] == "system" for m in made) and not wants.system:
        made = _merged(made)
    if wants.parts:
        for message in made:
            if isinstance(message["content"], str):
                message["content"] = [{"type": "text", "text": message["content"]}]
    return made


def _message(where: str, given: Mapping[str, Any], wants: Wants) -> Message:
    made = {key: value for key, value in given.items() if value is not None}
    if "function_call" in made:
        raise UsageError(f"{where} has a function_call", remedy=f"tool_calls, a list of {_CALL}")
    calls = made.pop("tool_calls", ())
    if not isinstance(calls, (list, tuple)):
        raise UsageError(f"{where}.tool_calls is a {type(calls).__name__}", remedy=f"a list of {_CALL}")
    if calls:
        made["tool_calls"] = [_call(f"{where}.tool_calls[{i}]", call, wants) for i, call in enumerate(calls)]
    content = _text(f"{where}.content", made.get("content"))
    made["content"] = None if calls and not content and wants.nulls else content
    if made["role"] == "developer" and not wants.developer:
        made["role"] = "system"
    return made


def _text(where: str, content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        raise UsageError(f"{where} is a {type(content).__name__}", remedy=_CONTENT)
    return "\n".join(_part(f"{where}[{i}]", part) for i, part in enumerate(content))


def _part(where: str, part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise UsageError(f"{where} is a {type(part).__name__}", remedy=_CONTENT)
    kind = part.get("type", "text")
    if not isinstance(kind, str) or kind not in _TEXTS:
        raise UsageError(f"{where} is of the type {shown(kind)}; the model reads text alone", remedy=_CONTENT)
    text = part.get(_TEXTS[kind])
    if not isinstance(text, str):
        raise UsageError(f"{where} has no text under {_TEXTS[kind]!r}", remedy=_CONTENT)
    return text


def _call(where: str, call: Any, wants: Wants) -> Message:
    if not isinstance(call, Mapping):
        raise UsageError(f"{where} is a {type(call).__name__}", remedy=_CALL)
    if "function" not in call:
        return _function(where, call, wants)
    return {**call, "function": _function(f"{where}.function", call["function"], wants)}


def _function(where: str, function: Any, wants: Wants) -> Message:
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(f"{where} is {shown(function)}, which names no function", remedy=_CALL)
    given = function.get("arguments")
    if isinstance(given, str) and given.strip() and not wants.objects:
        return dict(function)
    arguments: Any = given
    if given is None or (isinstance(given, str) and not given.strip()):
        arguments = {}
    elif isinstance(given, str):
        try:
            arguments = json.loads(given)
        except (ValueError, RecursionError) as bad:
            raise UsageError(f"{where}.arguments is no JSON: {bad}", remedy="the text of a JSON object") from bad
    if not isinstance(arguments, Mapping):
        raise UsageError(f"{where}.arguments is a {type(arguments).__name__}", remedy="a JSON object, or its text")
    if wants.objects:
        return {**function, "arguments": arguments}
    try:
        return {**function, "arguments": json.dumps(arguments, ensure_ascii=False)}
    except (TypeError, ValueError, RecursionError) as bad:
        raise UsageError(f"{where}.arguments cannot be written as JSON: {bad}", remedy="a JSON object") from bad


def _merged(messages: list[Message]) -> list[Message]:
    """Without a system role: its text stands before that of the next user message, or is one of its own at the end."""
    out: list[Message] = []
    pending: list[str] = []
    for message in messages:
        if message["role"] == "system":
            pending.append(message["content"])
            continue
        if message["role"] == "user" and pending:
            message = {**message, "content": "\n".join([*pending, message["content"]])}
            pending = []
        out.append(message)
    if pending:
        out.append({"role": "user", "content": "\n".join(pending)})
    return out
