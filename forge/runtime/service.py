"""Service: callers in any thread or event loop share one engine, and each gets the outputs of its own requests.

Two ways to step. The caller that waits steps the engine itself, if nobody else does, and hands out what every step
gives: so a lone caller computes in its own thread, and a CPU's worker threads are those that its other work has, and
do not compete with a second set. Or a thread steps, and every caller waits: while a request of an event loop runs,
which must not be held up, and always once `serve` was called.

Prompts are encoded and checked before the lock is taken, and for an event loop in a thread of its pool: a long prompt
holds up nobody but its caller.

A request that its caller leaves is cancelled, which the engine does in its next step. So somebody makes one: the thread
if it steps, else whoever is stepping, else the caller that leaves.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from forge.errors import ForgeError, RequestError
from forge.runtime.engine import Engine
from forge.runtime.group import Group
from forge.runtime.interrupts import interrupts_held
from forge.runtime.output import RequestOutput
from forge.runtime.params import RequestOutputKind, SamplingParams

Prompt = str | Sequence[int]
Event = RequestOutput | BaseException


class Service:
    """Steps `engine`; nothing else may. Ended by `close`.

    The engine's steps raise no Exception: a fault ends requests, whose outputs tell it. What is none (an interrupt, the
    end of the process) ends the service, and every waiting caller gets it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()  # guards what follows; notified when it changes or an output is there
        self._listeners: dict[str, Callable[[Event], None]] = {}
        self._stepping: threading.Thread | None = None
        self._ended: BaseException | None = None
        self._loop_requests: set[str] = set()  # of event loops, until the engine has ended them
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
        """Run requests to their end; their whole outputs, in their order. All are added, or none."""
        events: deque[Event] = deque()
        ids: list[str] = []
        done: dict[str, RequestOutput] = {}
        whole = [(prompt, replace(params, output_kind=RequestOutputKind.FINAL_ONLY)) for prompt, params in requests]
        groups = [self._engine.inbox.prepare(prompt, params) for prompt, params in whole]
        try:
            with interrupts_held(), self._changed:  # so that no output comes before its listener is known
                ids = self._add(groups, events.append)
            while len(done) < len(ids):
                output = self._next(events)
                done[output.request_id] = output
        finally:
            self._drop([i for i in ids if i not in done])
        return [done[i] for i in ids]

    def stream(self, prompt: Prompt, params: SamplingParams) -> Iterator[RequestOutput]:
        """The outputs of one request as they come. It is queued with the first; closing the iterator cancels it."""
        return self._follow(self._engine.inbox.prepare(prompt, params))

    def _follow(self, group: Group) -> Iterator[RequestOutput]:
        events: deque[Event] = deque()
        unfinished: list[str] = []
        try:
            with interrupts_held(), self._changed:
                unfinished = self._add([group], events.append)
            while unfinished:
                output = self._next(events)
                if output.finished:
                    unfinished = []
                yield output
        finally:
            self._drop(unfinished)

    async def stream_async(self, prompt: Prompt, params: SamplingParams) -> AsyncIterator[RequestOutput]:
        """The same for an event loop."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()

        def deliver(event: Event) -> None:
            with suppress(RuntimeError):  # the loop has closed: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        group = await asyncio.to_thread(self._engine.inbox.prepare, prompt, params)
        unfinished: list[str] = []
        try:
            with interrupts_held(), self._changed:
                unfinished = self._add([group], deliver)
                self._loop_requests.update(unfinished)
                self._start_thread()
            while unfinished:
                output = _raised(await events.get())
                if output.finished:
                    unfinished = []
                yield output
        finally:
            self._drop(unfinished)

    def close(self) -> None:
        """Cancel what runs, and wait for the step under way; every waiting caller is told. Idempotent."""
        with self._changed:
            first = self._ended is None
            for request in self._listeners:
                self._engine.cancel(request)
            thread, self._thread = self._thread, None
            self._end(RequestError("the LLM was closed", remedy="make another"))
            if self._stepping is threading.current_thread():  # as the handler of a signal is called within a step
                return
            self._changed.wait_for(lambda: self._stepping is None)
        if thread is not None:
            thread.join()
        if first:
            with interrupts_held():
                self._engine.step()  # takes the cancellations; nobody else steps any more

    @property
    def _threaded(self) -> bool:
        """Whether the thread steps, and nobody else; the caller holds the condition."""
        return self._serving or bool(self._loop_requests)

    def _check_open(self) -> None:
        if self._ended is not None:
            _raised(self._ended)

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
        with interrupts_held():
            with self._changed:
                for request in requests:
                    self._listeners.pop(request, None)
                    if not self._engine.cancel(request):
                        self._loop_requests.discard(request)
                mine = self._claim(self._idle and self._forsaken)
                self._changed.notify_all()
            if mine:
                self._step()

    def _next(self, events: deque[Event]) -> RequestOutput:
        """The caller's next output; steps the engine for everybody until it is there, or waits for who does."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: events or self._idle)
                if events:
                    return _raised(events.popleft())
            with interrupts_held():  # none may come between the claim and the step
                with self._changed:
                    mine = self._claim(self._idle and not events)
                if mine:
                    self._step()

    @property
    def _idle(self) -> bool:
        """Whether a caller may step; the caller holds the condition."""
        return not (self._stepping or self._threaded)

    @property
    def _forsaken(self) -> bool:
        """Whether cancellations wait for a step and the thread makes none; the caller holds the condition."""
        return self._engine.inbox.cancelling and not (self._threaded or self._ended)

    def _claim(self, due: bool) -> bool:
        """Whether the caller is to step, as `due`; then nobody else does. It holds the condition."""
        if due:
            self._stepping = threading.current_thread()
        return due

    def _run(self) -> None:
        """The thread."""
        while True:
            with self._changed:
                self._changed.wait_for(self._due)
                if self._ended is not None:
                    return
                self._claim(True)
            self._step()

    def _due(self) -> bool:
        """Whether the thread has something to do: to step, or to end."""
        if self._ended is not None:
            return True
        return self._threaded and not self._stepping and (bool(self._loop_requests) or self._engine.has_work)

    def _step(self) -> None:
        """A step, and more while cancellations wait for one. What goes wrong ends the service.

        The caller has claimed it, and holds interrupts back if it is the main thread.
        """
        while self._stepping:
            try:
                outputs = self._engine.step()
            except BaseException as error:  # whatever it is, every caller must hear of it; `_next` raises it
                with self._changed:
                    self._stepping = None
                    self._end(error)
                return
            with self._changed:
                for output in outputs:
                    self._tell(output)
                if not self._forsaken:
                    self._stepping = None
                self._changed.notify_all()

    def _tell(self, output: RequestOutput) -> None:
        """Hand an output to who waits for it, if anybody does; the caller holds the condition."""
        deliver = self._listeners.get(output.request_id)
        if output.finished:
            self._listeners.pop(output.request_id, None)
            self._loop_requests.discard(output.request_id)
        if deliver is not None:
            deliver(output)

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
