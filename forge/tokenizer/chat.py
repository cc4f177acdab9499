"""Chat templates: Jinja programs from the model file, run where they can neither reach Python nor run on for ever.

A template is a stranger's code. It runs in Jinja's immutable sandbox, which keeps it from attributes that lead into
Python and from changing its inputs, in a process with bounds on time and memory.

Variables and functions are those that templates are written for: messages, tools, documents, add_generation_prompt,
bos_token, eos_token, raise_exception, strftime_now, tojson without HTML escapes, loop controls, generation blocks.
Source: the Hugging Face documentation on chat templates; GGUF's keys tokenizer.chat_template and .chat_template.<name>.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forge.arguments import shown, switch, wrong
from forge.errors import TokenizerError, UsageError
from forge.gguf import GGUFFile
from forge.tokenizer.marks import Marker, restored
from forge.tokenizer.messages import check_roles, normal
from forge.tokenizer.renderer import Renderer
from forge.tokenizer.traits import Traits

DEFAULT = ""  # the name of the template that has none
_KEY = "tokenizer.chat_template"
_FOR_TOOLS = "tool_use"  # taken when tools are given and the file has it


@dataclass(frozen=True)
class ChatPrompt:
    """A rendered conversation. `mark` stands in the texts of special tokens that are none; "" if there are no such.

    See `forge.tokenizer.marks`.
    """

    text: str
    mark: str


class ChatTemplates:
    """The chat templates of one file by name. Immutable; any thread may render."""

    def __init__(self, sources: Mapping[str, str], variables: Mapping[str, str], where: str = "") -> None:
        self.sources, self.variables, self.where = dict(sources), dict(variables), where
        self._renderer = Renderer()
        self._known: dict[str, Traits] = {}  # by the template's name

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
        chat_template_kwargs: Mapping[str, Any] | None = None,
        marker: Marker | None = None,
        **extra: Any,
    ) -> ChatPrompt:
        """The prompt of `messages`, which may have the shape that OpenAI's clients send; see `messages.normal`.

        `chat_template_kwargs` are more keywords. Raises TokenizerError where the template fails, UsageError for bad
        messages and for a variable that the template does not read.
        """
        if chat_template_kwargs is not None:
            named = {"tools": tools, "template": template, **extra}
            more = _checked(chat_template_kwargs, {key for key, value in named.items() if value is not None})
            return self.render(
                messages, marker=marker, **({"add_generation_prompt": add_generation_prompt} | named | more)
            )
        check_roles(messages)
        switch("add_generation_prompt", add_generation_prompt)
        if tools is not None and not (isinstance(tools, (list, tuple)) and all(isinstance(t, Mapping) for t in tools)):
            raise UsageError(f"tools={shown(tools)}", remedy='a list of {"type": "function", "function": {...}}')
        name, source = self._choose(template, tools)
        traits = self._traits(name)
        given = {"messages": normal(messages, traits), **extra} | ({"tools": tools} if tools else {})
        _check_known(given, traits.names)
        marked, mark = marker.mark(given) if marker is not None else (given, "")
        kept = {key: given[key] for key in given.keys() & self.variables.keys()}  # a token that is given by its name
        values = {**self._defaults, "add_generation_prompt": add_generation_prompt, **marked, **kept}
        return ChatPrompt(restored(self._renderer.render(source, values, name, self.where), mark), mark)

    @property
    def _defaults(self) -> dict[str, Any]:
        return {**self.variables, "tools": None, "documents": None, "add_generation_prompt": True}

    def _traits(self, name: str) -> Traits:
        if name not in self._known:
            source, renderer, defaults, where = self.sources[name], self._renderer, self._defaults, self.where
            self._known[name] = Traits(
                source,
                lambda values: renderer.render(source, defaults | dict(values), name, where),
                lambda: renderer.names(source, name, where),
            )
        return self._known[name]

    def _choose(self, template: str | None, tools: object) -> tuple[str, str]:
        if template is not None and not isinstance(template, str):
            raise wrong("template", template, "the name of one of the model's templates")
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


def _checked(more: Any, given: Collection[str]) -> dict[str, Any]:
    """The keywords of chat_template_kwargs."""
    if not isinstance(more, Mapping) or not all(isinstance(key, str) for key in more):
        raise UsageError(f"chat_template_kwargs={shown(more)}", remedy='a mapping such as {"enable_thinking": False}')
    twice = [key for key in more if key in given or key in ("messages", "marker", "chat_template_kwargs")]
    if twice:
        raise UsageError(f"chat_template_kwargs gives {twice[0]!r}, which is given already", remedy="give it once")
    return dict(more)


def _check_known(given: Mapping[str, Any], names: Collection[str]) -> None:
    unknown = [key for key in given if key not in names and key != "messages"]
    if unknown:
        raise UsageError(
            f"{unknown[0]}= is no variable of the chat template",
            remedy=f"it reads {', '.join(sorted(names))}; what is sampled, and how much, is said by SamplingParams",
        )
