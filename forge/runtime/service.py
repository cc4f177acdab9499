"""Service: one thread that steps the engine, and callers that wait for their requests' outputs.

Callers add requests from any thread or event loop; the thread steps while there is work and hands each output to the
caller that asked for it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress

from forge.errors import ForgeError, RequestError
from forge.runtime.engine import Engine
from forge.runtime.output import RequestOutput
from forge.runtime.params import SamplingParams

Prompt = str | Sequence[int]
Event = RequestOutput | BaseException


class Service:
    """Owns the thread that steps `engine`; nothing else may step it. Started by the first request, ended by `close`.

    An exception that is no request's own (a device lost, a defect) ends the service: every waiting caller gets it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()  # guards the three below, and wakes the thread
        self._listeners: dict[str, Callable[[Event], None]] = {}
        self._thread: threading.Thread | None = None
        self._ended: BaseException | None = None

    def complete(self, requests: Sequence[tuple[Prompt, SamplingParams]]) -> list[RequestOutput]:
        """Run requests to their end; outputs in their order. All are added, or none."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        ids: list[str] = []
        done: dict[str, RequestOutput] = {}
        try:
            with self._changed:  # so that no output comes before its listener is known
                for prompt, params in requests:
                    ids.append(self._add(prompt, params, events.put))
            while len(done) < len(ids):
                output = _raised(events.get())
                if output.finished:
                    done[output.request_id] = output
        finally:
            self._drop([i for i in ids if i not in done])
        return [done[i] for i in ids]

    def stream(self, prompt: Prompt, params: SamplingParams) -> Iterator[RequestOutput]:
        """The outputs of one request as they come. Closing the iterator cancels it."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        with self._changed:
            request = self._add(prompt, params, events.put)
        return self._follow(request, events)

    def _follow(self, request: str, events: queue.SimpleQueue[Event]) -> Iterator[RequestOutput]:
        finished = False
        try:
            while not finished:
                output = _raised(events.get())
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
        finished = False
        try:
            while not finished:
                output = _raised(await events.get())
                finished = output.finished
                yield output
        finally:
            self._drop([] if finished else [request])

    def close(self) -> None:
        """Cancel what runs and join the thread."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._ended = self._ended or RequestError("the LLM was closed", remedy="make another")
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _add(self, prompt: Prompt, params: SamplingParams, deliver: Callable[[Event], None]) -> str:
        """Queue a request; the caller holds the condition."""
        if self._ended is not None:
            raise self._ended
        request = self._engine.add(prompt, params)
        self._listeners[request] = deliver
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="forge-engine", daemon=True)
            self._thread.start()
        self._changed.notify_all()
        return request

    def _drop(self, requests: Sequence[str]) -> None:
        """Stop listening to these requests and cancel them."""
        with self._changed:
            for request in requests:
                self._listeners.pop(request, None)
                self._engine.cancel(request)
            self._changed.notify_all()

    def _run(self) -> None:
        error: BaseException | None = None
        while error is None:
            with self._changed:
                self._changed.wait_for(lambda: self._ended is not None or self._engine.has_work)
                if self._ended is not None:
                    error = self._ended
                    break
            try:
                outputs = self._engine.step()
            except BaseException as raised:  # whatever it is, the callers must hear of it
                error = raised
                break
            self._hand_out(outputs)
        with self._changed:
            self._ended = error
            waiting, self._listeners = list(self._listeners.values()), {}
        for deliver in waiting:
            deliver(error)

    def _hand_out(self, outputs: Sequence[RequestOutput]) -> None:
        with self._changed:
            found = [(self._listeners.get(o.request_id), o) for o in outputs]
            for _, output in found:
                if output.finished:
                    self._listeners.pop(output.request_id, None)
        for deliver, output in found:
            if deliver is not None:
                deliver(output)


def _raised(event: Event) -> RequestOutput:
    """The output, or raise what came instead of it."""
    if isinstance(event, ForgeError):
        raise type(event)(event.what, where=event.where, remedy=event.remedy) from event
    if isinstance(event, BaseException):
        raise RuntimeError("the engine's thread has ended") from event
    return event
