"""Complete a prompt, or chat.

  forge run                          chat with the default model; without a terminal, complete a line of Python
  forge run 'def fib(n):'            complete a prompt with the default model; also with -p
  forge run model.gguf 'Once upon'   with another one
  forge run model.gguf --chat -p 'What is a monad?' --system 'Be brief.'    as a message, through the chat template
  git diff | forge run model.gguf    the prompt from stdin; with -p - even from a terminal

The completion goes to stdout as it comes; the prompt, progress and speed go to stderr. A lone argument is the model if
there is such a file, or if it looks like a path, and else the prompt.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from forge.cli import options
from forge.cli.converse import converse, opening
from forge.cli.terminal import aside, emit_json, emit_piece, loading, note
from forge.errors import ForgeError, UsageError

if TYPE_CHECKING:
    from forge.api import LLM, Prompt
    from forge.runtime.output import RequestOutput
    from forge.runtime.params import SamplingParams

SUMMARY = "complete a prompt, or chat"
DEFAULT_PROMPT = "class Point:\n    def __init__(self, x, y):\n        self.x = x\n"
# Tokens of a completion and of an answer where --max-tokens says nothing; fewer where the context holds no more.
COMPLETION, ANSWER = 128, 1024


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("text", nargs="?", metavar="PROMPT", help="the same as --prompt")
    parser.add_argument("-p", "--prompt", help="the text to complete; - reads it from stdin")
    parser.add_argument("--json", action="store_true", help="print one RequestOutput when it is complete")
    chat = parser.add_argument_group("chatting")
    chat.add_argument("--chat", action="store_true", help="give the prompt as a message, through the chat template")
    chat.add_argument("--system", metavar="TEXT", help="begin the conversation with this system message")
    chat.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="variables", type=_variable,
        help="a variable of the chat template, as JSON or else text: enable_thinking=false; may be repeated",
    )  # fmt: skip
    options.add_sampling_flags(parser)
    options.add_compile_flags(parser)


def _variable(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def run(args: argparse.Namespace) -> int:
    _tell_prompt_from_model(args)
    params = options.sampling_params(args)
    prompt = _prompt(args)
    if prompt is None and args.json:
        raise UsageError("--json needs a prompt", remedy="give one with --prompt")
    if prompt is not None and not args.chat and (args.system is not None or args.variables):
        raise UsageError("--system and --set are for chats", remedy="give --chat, too, or leave them out")
    variables = dict(args.variables)
    llm = _open(args)
    try:
        if prompt is None:
            return converse(llm, lambda p: _complete(llm, p, _fitting(llm, p, params, ANSWER)),
                            args.system, variables, args.debug)  # fmt: skip
        ready: Prompt = prompt
        if args.chat:
            ready = llm.chat_ids(
                [*opening(args.system), {"role": "user", "content": prompt}], chat_template_kwargs=variables
            )
        params = _fitting(llm, ready, params, ANSWER if args.chat else COMPLETION)
        if args.json:
            emit_json(request_json(llm.generate(ready, params)[0]))
            return 0
        _complete(llm, ready, params, "" if args.chat else prompt)
        return 0
    finally:
        llm.close()


def _tell_prompt_from_model(args: argparse.Namespace) -> None:
    """A lone argument that is no file, and does not look like one, is the prompt."""
    if args.prompt is not None and args.text is not None:
        raise UsageError("the prompt is given twice", remedy="give it as an argument or with --prompt")
    lone = args.model is not None and args.text is None and args.prompt is None
    if lone and not _is_path(args.model):
        args.model, args.text = None, args.model


def _is_path(text: str) -> bool:
    looks = text.endswith(".gguf") or (not any(c.isspace() for c in text) and any(c in text for c in "/\\"))
    return looks or ("\0" not in text and len(text) < 4096 and Path(text).exists())


def _prompt(args: argparse.Namespace) -> str | None:
    """The text to complete; None for a chat."""
    text: str | None = args.text if args.prompt is None else args.prompt
    if text == "-":
        return _stdin()
    if text is None and not sys.stdin.isatty():
        text = _stdin()
        if not text and args.model is not None:
            raise UsageError("there is no prompt, and no terminal to chat on", remedy="give one, or send it to stdin")
        return text or DEFAULT_PROMPT
    return text


def _stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as bad:
        raise UsageError(f"stdin is not text in {bad.encoding}", remedy="convert it to UTF-8") from bad


def _fitting(llm: LLM, prompt: Prompt, params: SamplingParams, most: int) -> SamplingParams:
    """The parameters with `max_tokens` where the user set none: `most`, or what the context has left for it."""
    if params.max_tokens is not None:
        return params
    tokens = len(llm.tokenizer.encode(prompt)) if isinstance(prompt, str) else len(prompt)
    return replace(params, max_tokens=max(1, min(most, llm.model.context_length - tokens)))


def _open(args: argparse.Namespace) -> LLM:
    from forge.api import LLM

    path = options.model_path(args)
    with loading(f"loading {path.name}") as progress:
        return LLM(path, progress=progress, **options.compile_options(args))


def _complete(llm: LLM, prompt: Prompt, params: SamplingParams, shown: str = "") -> str:
    """Stream a completion to stdout, then its speed to stderr; returns its text. Ctrl-C cancels the request."""
    aside(shown)
    pieces: list[str] = []
    times = [perf_counter()]
    prompt_tokens, reason = 0, None
    stream = llm.stream(prompt, params)
    try:
        for output in stream:
            prompt_tokens = len(output.prompt_token_ids)
            completion = output.outputs[0]
            reason = completion.finish_reason
            times += [perf_counter()] * len(completion.token_ids)
            pieces.append(completion.text)
            emit_piece(completion.text)
            if completion.error is not None:
                raise completion.error
    finally:
        stream.close()  # cancels what has not finished
        emit_piece("\n")
    note(speed(prompt_tokens, times))
    if reason == "length":
        note(f"The text was cut after {len(times) - 1} tokens: --max-tokens sets how many, within --context.")
    return "".join(pieces)


def speed(prompt_tokens: int, times: list[float]) -> str:
    """A line from the moments at which the request began and each token came."""
    count = len(times) - 1
    if not count:
        return f"{prompt_tokens} prompt tokens, none generated"
    rate = f", then {(count - 1) / (times[-1] - times[1]):,.1f} tokens/s" if times[-1] > times[1] else ""
    return f"{prompt_tokens} prompt tokens, {count} generated; the first after {times[1] - times[0]:.2f} s{rate}"


def request_json(output: RequestOutput) -> dict[str, Any]:
    """A RequestOutput as JSON values: its own field names, an error as its three parts."""
    shown = asdict(output)
    for completion, source in zip(shown["outputs"], output.outputs, strict=True):
        completion["error"] = None if source.error is None else error_json(source.error)
    return shown


def error_json(error: ForgeError) -> dict[str, str]:
    return {"type": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}
