"""Streams: the outputs of one request as they come. Whoever leaves one ends the request, and gives back its pages.

A stream is left by `close` or `aclose`, by an exception while its next output is waited for, or by being dropped. The
garbage collector drops it in any thread, in the middle of anything and whatever locks are held there; so nothing is
done then but to tell the service's thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from forge.errors import ForgeError, UsageError
from forge.runtime.group import Group
from forge.runtime.output import RequestOutput
from forge.runtime.params import SamplingParams

Prompt = str | Sequence[int]
Event = RequestOutput | BaseException | None  # None: the request was left


class Steps(Protocol):
    """What streams need of the service."""

    def prepare(self, prompt: Prompt, params: SamplingParams) -> Group: ...

    def begin(
        self, group: Group, deliver: Callable[[Event], None], queued: Callable[[str], None], *, of_loop: bool = False
    ) -> None: ...

    def next(self, events: deque[Event]) -> RequestOutput | None: ...

    def leave(self, requests: Sequence[str]) -> None: ...

    def left(self, request: str) -> None: ...


def raised(event: Event) -> RequestOutput | None:
    """The output, or raise what came instead of it."""
    if isinstance(event, ForgeError):
        raise type(event)(event.what, where=event.where, remedy=event.remedy) from event
    if isinstance(event, BaseException):
        raise RuntimeError("the engine has ended") from event
    return event


class Stream:
    """The outputs of one request, which is queued when the first of them is asked for. Read by one thread at a time."""

    def __init__(self, service: Steps, group: Group) -> None:
        self._service = service
        self._group: Group | None = group  # until it is queued
        self._request: str | None = None  # while it is queued or runs
        self._events: deque[Event] = deque()
        self._over = False
        self._reading = threading.Lock()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> RequestOutput:
        """The next output. Raises StopIteration at the end, or when the stream was closed meanwhile."""
        if self._over:
            raise StopIteration
        if not self._reading.acquire(blocking=False):
            raise UsageError("the stream is being read by another thread", remedy="a stream for each thread")
        try:
            self._begin()
            output = self._service.next(self._events)
        except BaseException:
            self.close()
            raise
        finally:
            self._reading.release()
        if output is None:
            raise StopIteration
        if output.finished:
            self._over, self._request = True, None
        return output

    def close(self) -> None:
        """End the request, if it has not ended. Idempotent; any thread may do it."""
        self._over = True
        request, self._request = self._request, None
        if request is not None:
            self._service.leave([request])

    def __del__(self) -> None:
        request: str | None = getattr(self, "_request", None)  # absent where making it has failed
        if request is not None:
            self._service.left(request)

    def _begin(self) -> None:
        if self._group is not None:
            group, self._group = self._group, None
            self._service.begin(group, self._events.append, self._queued)

    def _queued(self, request: str) -> None:
        self._request = request


class AsyncStream:
    """The same for an event loop. The prompt is encoded, and checked, when the first output is asked for."""

    def __init__(self, service: Steps, prompt: Prompt, params: SamplingParams) -> None:
        self._service = service
        self._asked: tuple[Prompt, SamplingParams] | None = (prompt, params)  # until it is queued
        self._request: str | None = None  # while it is queued or runs
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._over = False
        self._reading = False

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> RequestOutput:
        """The next output. Raises StopAsyncIteration at the end, or when the stream was closed meanwhile."""
        if self._over:
            raise StopAsyncIteration
        if self._reading:
            raise UsageError("the stream is being read by another task", remedy="a stream for each task")
        self._reading = True
        try:
            await self._begin()
            output = raised(await self._events.get()) if not self._over else None
        except BaseException:
            await self.aclose()
            raise
        finally:
            self._reading = False
        if output is None:
            raise StopAsyncIteration
        if output.finished:
            self._over, self._request = True, None
        return output

    async def aclose(self) -> None:
        """End the request, if it has not ended, without waiting for the step that does it. Idempotent."""
        self._over = True
        request, self._request = self._request, None
        if request is not None:
            self._service.leave([request])

    def __del__(self) -> None:
        request: str | None = getattr(self, "_request", None)  # absent where making it has failed
        if request is not None:
            self._service.left(request)

    async def _begin(self) -> None:
        if self._asked is None:
            return
        (prompt, params), self._asked = self._asked, None
        group = await asyncio.to_thread(self._service.prepare, prompt, params)
        if not self._over:
            deliver = _deliver_to(asyncio.get_running_loop(), self._events, group.id, self._service.left)
            self._service.begin(group, deliver, self._queued, of_loop=True)

    def _queued(self, request: str) -> None:
        self._request = request


def _deliver_to(
    loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event], request: str, left: Callable[[str], None]
) -> Callable[[Event], None]:
    """What hands events to a loop from any thread. It knows nothing of the stream, which may so be dropped."""

    def deliver(event: Event) -> None:
        try:
            loop.call_soon_threadsafe(events.put_nowait, event)
        except RuntimeError:  # the loop has closed: nobody listens any more
            left(request)

    return deliver
