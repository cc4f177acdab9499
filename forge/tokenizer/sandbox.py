"""What chat templates run in: Jinja's immutable sandbox, in a process with bounds on time and memory.

The sandbox keeps a template from attributes that lead into Python. It does not bound what one call costs: a method, a
filter or an operator can take all memory or run for ever. So the kernel does: beyond its share of memory an allocation
fails, and beyond its seconds the process ends. `forge.tokenizer.renderer` runs this file as that process, so it
imports nothing of Forge.

A request and an answer are eight bytes of length and what they count: a pickled (source, pickled variables), and a byte
that says which kind of answer follows. Variables that are None ask for the names of those that the template reads. The
process ends with stdin.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO, NoReturn

from jinja2 import Template, meta, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 1.0  # of the processor for one render; more for large conversations
MEMORY = 128 << 20  # bytes that a render may take; more for large conversations
SECONDS_A_BYTE, MEMORY_A_BYTE = 2e-6, 24  # of the conversation: Python's strings have up to four bytes a character
MAX_PROMPT = 1 << 24  # characters
RENDERED, FAILED = b"r", b"f"


class Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's words for training; here it only renders them."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Extension

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on it: no HTML escapes, keys in their own order."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def chat_environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    return environment


def put(file: BinaryIO, data: bytes) -> None:
    file.write(len(data).to_bytes(8, "little"))
    file.write(data)
    file.flush()


def get(file: BinaryIO) -> bytes | None:
    """What `put` wrote; None at the end of the file."""
    head = file.read(8)
    if len(head) < 8:
        return None
    data = file.read(size := int.from_bytes(head, "little"))
    return data if len(data) == size else None


def _allow(size: int) -> None:
    """Bound what a render of `size` bytes may take. Past its seconds a signal that nobody handles ends the process."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS + SECONDS_A_BYTE * size)
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        nbytes = MEMORY + MEMORY_A_BYTE * size
        most = taken + nbytes if hard == resource.RLIM_INFINITY else min(taken + nbytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _lift() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _answer(compiled: Any, request: bytes) -> bytes:
    """The rendered prompt, or names as a JSON list, or what went wrong as one: (kind of error, message, line)."""
    try:
        source, variables = pickle.loads(request)
        _allow(len(variables))
        template: Template = compiled(source)
        values = pickle.loads(variables)
        if values is None:
            return (
                RENDERED
                + json.dumps(sorted(meta.find_undeclared_variables(template.environment.parse(source)))).encode()
            )
        prompt = template.render(values)
        if len(prompt) > MAX_PROMPT:
            raise TemplateError(f"the prompt has {len(prompt)} characters; the limit is {MAX_PROMPT}")
        return RENDERED + prompt.encode("utf-8", "surrogatepass")
    except Exception as bad:  # whatever Python's operators and compiler can raise on behalf of a stranger's program
        kind = "" if isinstance(bad, TemplateError) else type(bad).__name__
        said = f"it needs more than {MEMORY >> 20} MB" if isinstance(bad, MemoryError) else str(bad)[:2000]
        return FAILED + json.dumps([kind, said, getattr(bad, "lineno", None)]).encode()
    finally:
        _lift()


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed must not come between answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal, and meant for the parent
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    compiled = lru_cache(maxsize=8)(chat_environment().from_string)
    while (request := get(sys.stdin.buffer)) is not None:
        put(answers, _answer(compiled, request))


if __name__ == "__main__":
    main()
