"""Complete a prompt, or chat.

  forge run                          chat with the default model; without a terminal, complete a line of Python
  forge run -p 'def fib(n):'         complete a prompt with the default model
  forge run model.gguf 'Once upon'   with another one
  forge run model.gguf --chat -p 'What is a monad?'   as a message, through the model's chat template
  git diff | forge run model.gguf -p -                the prompt from stdin

The completion goes to stdout as it comes; the prompt, progress and speed go to stderr.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING, Any

from forge.cli import options
from forge.cli.terminal import emit_json, loading, note
from forge.errors import ForgeError, MemoryPlanError, NumericsError, RequestError, TokenizerError, UsageError

if TYPE_CHECKING:
    from forge.api import LLM, Prompt
    from forge.runtime.output import RequestOutput
    from forge.runtime.params import SamplingParams

SUMMARY = "complete a prompt, or chat"
DEFAULT_PROMPT = "class Point:\n    def __init__(self, x, y):\n        self.x = x\n"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("text", nargs="?", metavar="PROMPT", help="the same as --prompt")
    parser.add_argument("-p", "--prompt", help="the text to complete; - reads it from stdin")
    parser.add_argument("--chat", action="store_true", help="give the prompt as a message, through the chat template")
    parser.add_argument("--json", action="store_true", help="print one RequestOutput when it is complete")
    options.add_sampling_flags(parser)
    options.add_compile_flags(parser)


def run(args: argparse.Namespace) -> int:
    if args.prompt is not None and args.text is not None:
        raise UsageError("the prompt is given twice", remedy="give it as an argument or with --prompt")
    params = options.sampling_params(args)
    prompt = _prompt(args)
    if prompt is None and args.json:
        raise UsageError("--json needs a prompt", remedy="give one with --prompt")
    llm = _open(args)
    try:
        if prompt is None:
            return _converse(llm, params)
        ready = llm.chat_ids([{"role": "user", "content": prompt}]) if args.chat else prompt
        if args.json:
            emit_json(request_json(llm.generate(ready, params)[0]))
            return 0
        note_prompt = "" if args.chat else prompt
        _complete(llm, ready, params, note_prompt)
        return 0
    finally:
        llm.close()


def _prompt(args: argparse.Namespace) -> str | None:
    """The text to complete; None for a chat."""
    text: str | None = args.text if args.prompt is None else args.prompt
    if text == "-":
        return sys.stdin.read()
    if text is None and not (sys.stdin is not None and sys.stdin.isatty()):
        if args.model is not None:
            raise UsageError("there is no prompt, and no terminal to chat on", remedy="give one, or -p - for stdin")
        return DEFAULT_PROMPT
    return text


def _open(args: argparse.Namespace) -> LLM:
    from forge.api import LLM

    path = options.model_path(args)
    with loading(f"loading {path.name}") as progress:
        return LLM(path, progress=progress, **options.compile_options(args))


def _complete(llm: LLM, prompt: Prompt, params: SamplingParams, shown: str = "") -> str:
    """Stream a completion to stdout, then its speed to stderr; returns its text. Ctrl-C cancels the request."""
    print(shown, end="", file=sys.stderr, flush=True)
    pieces: list[str] = []
    times = [perf_counter()]
    prompt_tokens = 0
    stream = llm.stream(prompt, params)
    try:
        for output in stream:
            prompt_tokens = len(output.prompt_token_ids)
            completion = output.outputs[0]
            times += [perf_counter()] * len(completion.token_ids)
            pieces.append(completion.text)
            print(completion.text, end="", flush=True)
            if completion.error is not None:
                raise completion.error
    finally:
        stream.close()  # type: ignore[attr-defined]  # a generator: closing it cancels what has not finished
        print(flush=True)
    note(speed(prompt_tokens, times))
    return "".join(pieces)


def speed(prompt_tokens: int, times: list[float]) -> str:
    """A line from the moments at which the request began and each token came."""
    count = len(times) - 1
    if not count:
        return f"{prompt_tokens} prompt tokens, none generated"
    rate = f", then {(count - 1) / (times[-1] - times[1]):,.1f} tokens/s" if times[-1] > times[1] else ""
    return f"{prompt_tokens} prompt tokens, {count} generated; the first after {times[1] - times[0]:.2f} s{rate}"


def _converse(llm: LLM, params: SamplingParams) -> int:
    """Chat until end of input. Ctrl-C stops an answer; at the prompt it ends the chat."""
    with suppress(ImportError):  # lines can be edited where Python has it
        import readline  # noqa: F401
    templated = llm.tokenizer.chat_template is not None
    what = "Chat" if templated else "The model has no chat template: it completes each line by itself"
    note(f"{what}. /clear forgets the conversation; Ctrl-D ends.")
    messages: list[dict[str, str]] = []
    while True:
        try:
            text = input("> ")
        except EOFError:
            return 0
        if text.strip() in ("", "/clear"):
            messages.clear()
            continue
        messages.append({"role": "user", "content": text})
        try:
            answer = _complete(llm, llm.chat_ids(messages) if templated else text, params)
            messages.append({"role": "assistant", "content": answer})
        except KeyboardInterrupt:
            messages.pop()
            note("stopped")
        except (RequestError, NumericsError, MemoryPlanError, TokenizerError) as error:  # of this turn only
            messages.pop()
            note(f"error: {error}")


def request_json(output: RequestOutput) -> dict[str, Any]:
    """A RequestOutput as JSON values: its own field names, an error as its three parts."""
    shown = asdict(output)
    for completion, source in zip(shown["outputs"], output.outputs, strict=True):
        completion["error"] = None if source.error is None else error_json(source.error)
    return shown


def error_json(error: ForgeError) -> dict[str, str]:
    return {"type": type(error).__name__, "what": error.what, "where": error.where, "remedy": error.remedy}
