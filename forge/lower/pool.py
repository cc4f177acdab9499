"""Kernels compiled by other processes, ahead of their use, into the files in which Triton looks for them.

The processes are started anew, so that a script that uses Forge is not run again in them, and they touch no device.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import BinaryIO, cast

from forge.lower.compile_worker import get, put
from forge.lower.rates import spare_memory

WORKER_MEMORY = 1 << 30  # bytes that a process may need


def workers() -> int:
    """How many processes there may be: as many as cores but one, and as memory allows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores - 1, spare_memory() // WORKER_MEMORY))


def worker() -> tuple[str, ...]:
    """The command of a process that imports from where this one does."""
    main = "from forge.lower.compile_worker import main; main()"
    return sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {main}"


class Pool:
    """Compiles each job once, by the key under which Triton files what comes of it. Safe to use from any thread.

    A job that fails is no error here: its kernel is compiled again at its use, which tells. A process that dies is a
    RuntimeWarning. The processes end when there is nothing left to do, and with `close`.
    """

    def __init__(self, most: int | None = None, command: Sequence[str] | None = None) -> None:
        self._most = workers() if most is None else most
        self._command = worker() if command is None else command
        self._jobs: dict[str, Future[str | None]] = {}
        self._line: deque[tuple[str, str, bytes]] = deque()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._busy = 0  # threads that have not seen the line's end
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def add(self, key: str, name: str, job: bytes) -> None:
        """Compile a job, called `name` in warnings, after those added before it."""
        with self._lock:
            if key in self._jobs or self._closed:
                return
            self._jobs[key] = Future()
            self._line.append((key, name, job))
            if self._busy < self._most:
                self._busy += 1
                self._threads.append(threading.Thread(target=self._work, name="forge-compile", daemon=True))
                self._threads[-1].start()

    def wait(self, key: str) -> None:
        """Until the job of this key has been tried, if a process is at it. One that stands in line is taken out."""
        job = self._jobs.get(key)
        if job is not None and not job.cancel():
            job.result()

    def answers(self) -> dict[str, str | None]:
        """What was said of each job that is done: "" of one that went well, None where the process died."""
        with self._lock:
            return {key: job.result() for key, job in self._jobs.items() if job.done() and not job.cancelled()}

    def finish(self) -> None:
        """Wait until nothing is left to do and every process has ended."""
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        """Drop what is not begun, and end the processes. Idempotent."""
        with self._lock:
            self._closed = True
            self._line.clear()
            for job in self._jobs.values():
                job.cancel()
            for process in self._running:
                process.kill()
        self.finish()

    def _next(self) -> tuple[str, str, bytes] | None:
        """The next job; None after which the thread that asks has nothing to do."""
        with self._lock:
            while self._line:
                found = self._line.popleft()
                if self._jobs[found[0]].set_running_or_notify_cancel():
                    return found
            self._busy -= 1
            return None

    def _work(self) -> None:
        process: subprocess.Popen[bytes] | None = None
        while (job := self._next()) is not None:
            key, name, data = job
            process = self._start() if process is None else process
            answer = self._asked(process, data)
            if answer is None:
                self._end(process)
                if not self._closed:
                    what = f"a process that compiled {name} ended with code {process.returncode}"
                    warnings.warn(f"{what}; the kernel is compiled at its use", RuntimeWarning, stacklevel=1)
                process = None
            self._jobs[key].set_result(None if answer is None else answer.decode())
        if process is not None:
            self._end(process)

    def _start(self) -> subprocess.Popen[bytes]:
        """A process, in a session of its own: what interrupts this one from a terminal is not for it.

        Its stderr has compilers' dumps; what fails is compiled again here, and tells.
        """
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        with self._lock:
            made = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=nothing, start_new_session=True)
            self._running.add(made)
            if self._closed:
                made.kill()
        return made

    def _asked(self, process: subprocess.Popen[bytes], job: bytes) -> bytes | None:
        """The answer to a job; None from a process that has ended."""
        with suppress(BrokenPipeError):
            put(cast(BinaryIO, process.stdin), job)
            return get(cast(BinaryIO, process.stdout))
        return None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(BrokenPipeError):
            cast(BinaryIO, process.stdin).close()
        process.wait()
        cast(BinaryIO, process.stdout).close()
        with self._lock:
            self._running.discard(process)
