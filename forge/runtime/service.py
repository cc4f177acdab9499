"""Service: callers in any thread or event loop share one engine, and each gets the outputs of its own requests.

Two ways to step. The caller that waits steps the engine itself, if nobody else does, and hands out what every step
gives: so a lone caller computes in its own thread, and a CPU's worker threads are those that its other work has, and
do not compete with a second set. Or a thread steps, and every caller waits: while a request of an event loop runs,
which must not be held up, and always once `serve` was called.

Prompts are encoded and checked before the lock is taken, and for an event loop in a thread of its pool: a long prompt
holds up nobody but its caller.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress

from forge.errors import ForgeError, RequestError
from forge.runtime.engine import Engine
from forge.runtime.group import Group
from forge.runtime.interrupts import interrupts_held
from forge.runtime.output import RequestOutput
from forge.runtime.params import SamplingParams

Prompt = str | Sequence[int]
Event = RequestOutput | BaseException


class Service:
    """Steps `engine`; nothing else may. Ended by `close`.

    An exception that is no request's own (a device lost, a defect) ends the service: every waiting caller gets it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()  # guards what follows; notified when it changes or an output is there
        self._listeners: dict[str, Callable[[Event], None]] = {}
        self._stepping = False
        self._ended: BaseException | None = None
        self._loop_requests: set[str] = set()  # of event loops
        self._serving = False
        self._thread: threading.Thread | None = None

    def serve(self) -> None:
        """From now on a thread steps the engine, for every caller."""
        with self._changed:
            self._check_open()
            self._serving = True
            self._start_thread()
            self._changed.notify_all()

    def complete(self, requests: Sequence[tuple[Prompt, SamplingParams]]) -> list[RequestOutput]:
        """Run requests to their end; outputs in their order. All are added, or none."""
        events: deque[Event] = deque()
        ids: list[str] = []
        done: dict[str, RequestOutput] = {}
        groups = [self._engine.inbox.prepare(prompt, params) for prompt, params in requests]
        try:
            with self._changed:  # so that no output comes before its listener is known
                ids = self._add(groups, events.append)
            while len(done) < len(ids):
                output = self._next(events)
                if output.finished:
                    done[output.request_id] = output
        finally:
            self._drop([i for i in ids if i not in done])
        return [done[i] for i in ids]

    def stream(self, prompt: Prompt, params: SamplingParams) -> Iterator[RequestOutput]:
        """The outputs of one request as they come. Closing the iterator cancels it."""
        events: deque[Event] = deque()
        group = self._engine.inbox.prepare(prompt, params)
        with self._changed:
            (request,) = self._add([group], events.append)
        return self._follow(request, events)

    def _follow(self, request: str, events: deque[Event]) -> Iterator[RequestOutput]:
        finished = False
        try:
            while not finished:
                output = self._next(events)
                finished = output.finished
                yield output
        finally:
            self._drop([] if finished else [request])

    async def stream_async(self, prompt: Prompt, params: SamplingParams) -> AsyncIterator[RequestOutput]:
        """The same for an event loop."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()

        def deliver(event: Event) -> None:
            with suppress(RuntimeError):  # the loop has closed: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        group = await asyncio.to_thread(self._engine.inbox.prepare, prompt, params)
        with self._changed:
            (request,) = self._add([group], deliver)
            self._loop_requests.add(request)
            self._start_thread()
        finished = False
        try:
            while not finished:
                output = _raised(await events.get())
                finished = output.finished
                yield output
        finally:
            self._drop([] if finished else [request])

    def close(self) -> None:
        """Cancel what runs; every waiting caller is told. Idempotent."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._end(RequestError("the LLM was closed", remedy="make another"))
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    @property
    def _threaded(self) -> bool:
        """Whether the thread steps, and nobody else; the caller holds the condition."""
        return self._serving or bool(self._loop_requests)

    def _check_open(self) -> None:
        if self._ended is not None:
            raise self._ended

    def _start_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="forge-engine", daemon=True)
            self._thread.start()

    def _add(self, groups: Sequence[Group], deliver: Callable[[Event], None]) -> list[str]:
        """Queue requests, all or none; the caller holds the condition."""
        self._check_open()
        requests = self._engine.inbox.submit(groups)
        self._listeners.update(dict.fromkeys(requests, deliver))
        self._changed.notify_all()
        return requests

    def _drop(self, requests: Sequence[str]) -> None:
        """Stop listening to these requests and cancel them."""
        with self._changed:
            for request in requests:
                self._listeners.pop(request, None)
                self._loop_requests.discard(request)
                self._engine.cancel(request)
            # Where nobody is left to step, the engine would not hear of it, and their pages not come back.
            last = bool(requests) and not (self._stepping or self._serving or self._listeners or self._ended)
            self._stepping |= last
            self._changed.notify_all()
        if last:
            self._step()

    def _next(self, events: deque[Event]) -> RequestOutput:
        """The caller's next output; steps the engine for everybody until it is there, or waits for who does."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: events or not (self._stepping or self._threaded))
                if events:
                    return _raised(events.popleft())
                self._stepping = True
            self._step()

    def _run(self) -> None:
        """The thread."""
        while True:
            with self._changed:
                self._changed.wait_for(self._due)
                if self._ended is not None:
                    return
                self._stepping = True
            self._step()

    def _due(self) -> bool:
        """Whether the thread has something to do: to step, or to end."""
        if self._ended is not None:
            return True
        return self._threaded and not self._stepping and (bool(self._loop_requests) or self._engine.has_work)

    def _step(self) -> None:
        """One step; the caller has claimed it by `_stepping`. What goes wrong ends the service."""
        with interrupts_held():
            self._step_and_tell()

    def _step_and_tell(self) -> None:
        try:
            outputs = self._engine.step()
        except BaseException as error:  # whatever it is, every caller must hear of it; `_next` raises it
            with self._changed:
                self._stepping = False
                self._end(error)
            return
        with self._changed:
            self._stepping = False
            for output in outputs:
                deliver = self._listeners.get(output.request_id)
                if output.finished:
                    self._listeners.pop(output.request_id, None)
                    self._loop_requests.discard(output.request_id)
                if deliver is not None:
                    deliver(output)
            self._changed.notify_all()

    def _end(self, error: BaseException) -> None:
        """Take no more requests and tell who waits; the caller holds the condition."""
        self._ended = self._ended or error
        waiting, self._listeners = list(self._listeners.values()), {}
        self._loop_requests.clear()
        for deliver in waiting:
            deliver(self._ended)
        self._changed.notify_all()


def _raised(event: Event) -> RequestOutput:
    """The output, or raise what came instead of it."""
    if isinstance(event, ForgeError):
        raise type(event)(event.what, where=event.where, remedy=event.remedy) from event
    if isinstance(event, BaseException):
        raise RuntimeError("the engine has ended") from event
    return event
