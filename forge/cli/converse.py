"""A chat at a terminal: lines in, answers out, until end of input."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from forge.cli.terminal import aside, note
from forge.errors import DeviceError, ForgeError

if TYPE_CHECKING:
    from forge.api import LLM, Prompt

Message = dict[str, Any]


def opening(system: str | None) -> list[Message]:
    """What a conversation begins with."""
    return [] if system is None else [{"role": "system", "content": system}]


def converse(
    llm: LLM,
    answer: Callable[[Prompt], str],
    system: str | None = None,
    variables: Mapping[str, Any] | None = None,
    debug: bool = False,
) -> int:
    """Chat until end of input. Ctrl-C stops an answer; at the prompt it ends the chat. An error ends its turn only.

    `answer` streams what the model says to a prompt and returns it; `variables` are the template's.
    """
    with suppress(ImportError):  # lines can be edited where Python has it
        import readline  # noqa: F401
    templated = llm.tokenizer.chat_template is not None
    what = "Chat" if templated else "The model has no chat template: it completes each line by itself"
    note(f"{what}. /clear forgets the conversation; Ctrl-D ends.")
    messages = opening(system)
    while True:
        try:
            text = input("> ")
        except EOFError:
            return 0
        if text.strip() == "/clear":
            messages = opening(system)
            note("The conversation is forgotten.")
        if text.strip() in ("", "/clear"):
            continue
        messages.append({"role": "user", "content": text})
        try:
            said = answer(llm.chat_ids(messages, chat_template_kwargs=variables) if templated else text)
            messages.append({"role": "assistant", "content": said})
        except KeyboardInterrupt:
            messages.pop()
            note("stopped")
        except DeviceError:  # of every turn to come
            raise
        except ForgeError as error:
            messages.pop()
            if debug:
                aside(traceback.format_exc())
            note(f"error: {error}")
