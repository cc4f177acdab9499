"""Service: callers in any thread or event loop share one engine, and each gets the outputs of its own requests.

The caller that waits steps the engine itself, if nobody else does, and hands out what every step gives. So a lone
caller computes in its own thread, and needs no other: a CPU's worker threads are then those that the caller's other
work has, and do not compete with a second set. An event loop must not be held up, so for its requests a thread steps.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from forge.errors import ForgeError, RequestError
from forge.runtime.engine import Engine
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
        self._changed = threading.Condition()  # guards the four below; notified when one changes or an output is there
        self._listeners: dict[str, Callable[[Event], None]] = {}
        self._stepping = False
        self._ended: BaseException | None = None
        self._loop_requests: set[str] = set()  # of event loops, for which the thread steps
        self._thread: threading.Thread | None = None

    def complete(self, requests: Sequence[tuple[Prompt, SamplingParams]]) -> list[RequestOutput]:
        """Run requests to their end; outputs in their order. All are added, or none."""
        events: deque[Event] = deque()
        ids: list[str] = []
        done: dict[str, RequestOutput] = {}
        try:
            with self._changed:  # so that no output comes before its listener is known
                for prompt, params in requests:
                    ids.append(self._add(prompt, params, events.append))
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
        with self._changed:
            request = self._add(prompt, params, events.append)
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

        with self._changed:
            request = self._add(prompt, params, deliver)
            self._loop_requests.add(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._step_for_loops, name="forge-engine", daemon=True)
                self._thread.start()
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

    def _add(self, prompt: Prompt, params: SamplingParams, deliver: Callable[[Event], None]) -> str:
        """Queue a request; the caller holds the condition."""
        if self._ended is not None:
            raise self._ended
        request = self._engine.add(prompt, params)
        self._listeners[request] = deliver
        self._changed.notify_all()
        return request

    def _drop(self, requests: Sequence[str]) -> None:
        """Stop listening to these requests and cancel them."""
        with self._changed:
            for request in requests:
                self._listeners.pop(request, None)
                self._loop_requests.discard(request)
                self._engine.cancel(request)
            # Where nobody is left to step, the engine would not hear of it, and their pages not come back.
            last = bool(requests) and not self._stepping and not self._listeners and self._ended is None
            self._stepping |= last
            self._changed.notify_all()
        if last:
            self._step()

    def _next(self, events: deque[Event]) -> RequestOutput:
        """The caller's next output; steps the engine for everybody until it is there, or waits for who does."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: events or not self._stepping)
                if events:
                    return _raised(events.popleft())
                self._stepping = True
            self._step()

    def _step_for_loops(self) -> None:
        """The thread: steps while a request of an event loop runs and no caller does it."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._ended is not None or (bool(self._loop_requests) and not self._stepping)
                )
                if self._ended is not None:
                    return
                self._stepping = True
            self._step()

    def _step(self) -> None:
        """One step; the caller has claimed it by `_stepping`. What goes wrong ends the service."""
        with _whole():
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


@contextmanager
def _whole() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done: a step cut short would leave requests half committed.

    Pressed twice it takes effect at once, for a device that hangs. Signals reach only the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []

    def note(number: int, frame: object) -> None:
        pressed.append(number)
        if len(pressed) > 1:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def _raised(event: Event) -> RequestOutput:
    """The output, or raise what came instead of it."""
    if isinstance(event, ForgeError):
        raise type(event)(event.what, where=event.where, remedy=event.remedy) from event
    if isinstance(event, BaseException):
        raise RuntimeError("the engine has ended") from event
    return event
