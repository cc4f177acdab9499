"""Chat templates rendered in a process of their own, which can take neither this one's memory nor its time."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forge.errors import MissingDependencyError, TokenizerError, UsageError

_SANDBOX = Path(__file__).parent / "sandbox.py"
_REMEDY = "check the messages against what the template expects, or build the prompt yourself"
_LENGTH = 8


class Renderer:
    """Renders templates of one model. The process starts with the first render and keeps what it has compiled.

    Any thread may render; they take turns. The process ends with the renderer, and is started anew where a template has
    ended it. After a fork, parent and child have one each.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def render(self, source: str, variables: Mapping[str, Any], name: str = "", where: str = "") -> str:
        """The text of the template `source`. Raises TokenizerError where it fails or takes too much.

        Raises UsageError for variables that no other process can be told of. `name` and `where` are for the messages.
        """
        return self._result(source, plain(variables), name, where)

    def names(self, source: str, name: str = "", where: str = "") -> frozenset[str]:
        """The variables that the template `source` reads. Raises as `render` does."""
        return frozenset(json.loads(self._result(source, None, name, where)))

    def _result(self, source: str, variables: Mapping[str, Any] | None, name: str, where: str) -> str:
        try:
            request = pickle.dumps((source, pickle.dumps(variables)))
        except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as bad:
            raise UsageError(
                f"the messages or the template's variables hold what is no data: {bad}",
                remedy="text, numbers, lists and dictionaries",
            ) from bad
        what = f"the chat template{f' {name!r}' if name else ''} failed"
        answer = self._ask(request)
        if isinstance(answer, int):
            raise TokenizerError(f"{what}: {_ended(answer)}", where=where, remedy=_REMEDY)
        if answer[:1] == b"r":
            return answer[1:].decode("utf-8", "surrogatepass")
        kind, said, line = json.loads(answer[1:])
        raise TokenizerError(
            f"{what}: {f'{kind}: ' if kind else ''}{said}",
            where=where + (f", line {line} of the template" if line else ""),
            remedy=_REMEDY,
        )

    def _ask(self, request: bytes) -> bytes | int:
        """The process's answer, or the code with which it ended."""
        with self._lock:
            process = self._started()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(len(request).to_bytes(_LENGTH, "little") + request)
                process.stdin.flush()
                head = process.stdout.read(_LENGTH)
                answer = process.stdout.read(int.from_bytes(head, "little"))
                if len(head) == _LENGTH and answer:
                    return answer
            except BrokenPipeError:
                pass
            except BaseException:  # Ctrl-C, for one: the answer would come to the next question
                self._process = None
                process.kill()
                _end(process, os.getpid())
                raise
            self._process = None
            _end(process, os.getpid())
            return process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid():
            if find_spec("jinja2") is None:
                raise MissingDependencyError("chat templates need the package jinja2", remedy="pip install jinja2")
            command = [sys.executable, "-S", "-P", str(_SANDBOX)]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            pipe, null = subprocess.PIPE, subprocess.DEVNULL
            try:
                self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, env=environment)
            except OSError as bad:
                raise TokenizerError(
                    f"the process for chat templates cannot be started: {bad}",
                    where=sys.executable or "sys.executable",
                    remedy="let processes be started, or build the prompt yourself",
                ) from bad
            self._owner = os.getpid()
            weakref.finalize(self, _end, self._process, self._owner)
        return self._process


def plain(value: Any) -> Any:
    """`value` with its mappings as dictionaries, so that it can be told to a process that lacks their classes."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else list(map(plain, value))
    return value


def _ended(code: int) -> str:
    if code == -signal.SIGPROF:
        return "it ran for too long"
    return f"its process ended with {signal.Signals(-code).name if code < 0 else f'code {code}'}"


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """Let go of a process, which ends with its input; a fork of its owner does not wait for it."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(OSError):  # words that were not sent yet, to a process that is gone
            pipe.close()
    if owner == os.getpid():
        process.wait()
