"""Chat templates: Jinja programs from the model file, run where they can neither reach Python nor run on for ever.

A template is a stranger's code. It runs in Jinja's immutable sandbox, which keeps it from attributes that lead into
Python and from changing its inputs, in a process with bounds on time and memory.

Variables and functions are those that templates are written for: messages, tools, documents, add_generation_prompt,
bos_token, eos_token, raise_exception, strftime_now, tojson without HTML escapes, loop controls, generation blocks.
Source: the Hugging Face documentation on chat templates; GGUF's keys tokenizer.chat_template and .chat_template.<name>.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forge.errors import TokenizerError, UsageError
from forge.gguf import GGUFFile
from forge.tokenizer.renderer import Renderer

DEFAULT = ""  # the name of the template that has none
_KEY = "tokenizer.chat_template"
_FOR_TOOLS = "tool_use"  # taken when tools are given and the file has it


class ChatTemplates:
    """The chat templates of one file by name. Immutable; any thread may render."""

    def __init__(self, sources: Mapping[str, str], variables: Mapping[str, str], where: str = "") -> None:
        self.sources, self.variables, self.where = dict(sources), dict(variables), where
        self._renderer = Renderer()

    @classmethod
    def read(cls, gguf: GGUFFile, variables: Mapping[str, str]) -> ChatTemplates:
        """Raises FileFormatError for a template that is no string."""
        sources = {
            key[len(_KEY) :].removeprefix("."): gguf.require(key, str)
            for key in gguf.metadata
            if key == _KEY or key.startswith(f"{_KEY}.")
        }
        return cls(sources, variables, str(gguf.path))

    @property
    def default(self) -> str | None:
        return self.sources.get(DEFAULT)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template: str | None = None,
        **extra: Any,
    ) -> str:
        """The prompt of `messages`. Raises TokenizerError where the template fails, UsageError for bad messages."""
        for i, message in enumerate(messages):
            if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
                raise UsageError(
                    f'messages[{i}] is {message!r:.80}; a message looks like {{"role": ..., "content": ...}}'
                )
        name, source = self._choose(template, tools)
        variables = {
            **self.variables,
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **extra,
        }
        return self._renderer.render(source, variables, name, self.where)

    def _choose(self, template: str | None, tools: object) -> tuple[str, str]:
        name = template
        if name is None:
            name = _FOR_TOOLS if tools and _FOR_TOOLS in self.sources else DEFAULT
        source = self.sources.get(name)
        if source is not None:
            return name, source
        named = ", ".join(sorted(n for n in self.sources if n))
        raise TokenizerError(
            f"the model has no chat template {template!r}" if template else "the model has no chat template",
            where=self.where,
            remedy=f"choose one of its templates: {named}" if named else "give it plain prompts, as a base model",
        )
