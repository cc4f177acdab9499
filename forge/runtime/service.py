"""Service: callers in any thread or event loop share one engine, and each gets the outputs of its own requests.

Two ways to step. The caller that waits steps the engine itself, if nobody else does, and hands out what every step
gives: so a lone caller computes in its own thread, and a CPU's worker threads are those that its other work has, and
do not compete with a second set. Or a thread steps, and every caller waits: while a request of an event loop runs,
which must not be held up, and always once `serve` was called.

Prompts are encoded and checked before the lock is taken, and for an event loop in a thread of its pool: a long prompt
holds up nobody but its caller.

A request that its caller leaves is cancelled, which the engine does in its next step. So somebody makes one: the thread
if it steps, else whoever is stepping, else the caller that leaves; the thread too where a stream is dropped.

Lives and deaths. The thread knows the service weakly while it has nothing to do, so that a service which is dropped
goes, and the thread with it. Before the interpreter ends the service is closed: a thread that is then within a step
would take the process down. In a forked child nothing of it can be used.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue

from forge.errors import RequestError
from forge.process import Home
from forge.runtime.engine import Engine
from forge.runtime.group import Group
from forge.runtime.interrupts import Held, interrupts_held
from forge.runtime.output import RequestOutput
from forge.runtime.params import RequestOutputKind, SamplingParams
from forge.runtime.streams import AsyncStream, Event, Prompt, Stream, raised


class Service:
    """Steps `engine`; nothing else may. Ended by `close`.

    The engine's steps raise no Exception: a fault ends requests, whose outputs tell it. What is none (an interrupt, the
    end of the process) ends the service, and every waiting caller gets it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._home = Home()
        self._changed = threading.Condition()  # guards what follows; notified when it changes or an output is there
        self._listeners: dict[str, Callable[[Event], None]] = {}
        self._stepping: threading.Thread | None = None
        self._ended: BaseException | None = None
        self._loop_requests: set[str] = set()  # of event loops, until the engine has ended them
        self._serving = False
        self._thread: threading.Thread | None = None
        self._news: SimpleQueue[str | None] = SimpleQueue()  # wakes the thread, and names requests that were left
        at_exit = partial(_close, weakref.ref(self))
        atexit.register(at_exit)
        weakref.finalize(self, atexit.unregister, at_exit).atexit = False
        weakref.finalize(self, self._news.put, None).atexit = False

    def serve(self) -> None:
        """From now on a thread steps the engine, for every caller."""
        self._home.check("the LLM")
        with self._changed:
            self._check_open()
            self._serving = True
            self._start_thread()
            self._notify()

    def prepare(self, prompt: Prompt, params: SamplingParams) -> Group:
        """A request ready to `begin`: the slow part. Raises as `Inbox.prepare` does, and UsageError after a fork."""
        self._home.check("the LLM")
        return self._engine.inbox.prepare(prompt, params)

    def complete(self, requests: Sequence[tuple[Prompt, SamplingParams]]) -> list[RequestOutput]:
        """Run requests to their end; their whole outputs, in their order. All are added, or none."""
        events: deque[Event] = deque()
        ids: list[str] = []
        done: dict[str, RequestOutput] = {}
        whole = [(prompt, replace(params, output_kind=RequestOutputKind.FINAL_ONLY)) for prompt, params in requests]
        groups = [self.prepare(prompt, params) for prompt, params in whole]
        try:
            with interrupts_held(), self._changed:  # so that no output comes before its listener is known
                ids = self._add(groups, events.append)
            while len(done) < len(ids):
                output = self.next(events)
                assert output is not None, "nobody else knows these requests"
                done[output.request_id] = output
        finally:
            self.leave([i for i in ids if i not in done])
        return [done[i] for i in ids]

    def stream(self, prompt: Prompt, params: SamplingParams) -> Stream:
        """The outputs of one request as they come. It is queued with the first; closing the stream cancels it."""
        return Stream(self, self.prepare(prompt, params))

    def stream_async(self, prompt: Prompt, params: SamplingParams) -> AsyncStream:
        """The same for an event loop."""
        self._home.check("the LLM")
        return AsyncStream(self, prompt, params)

    def begin(
        self, group: Group, deliver: Callable[[Event], None], queued: Callable[[str], None], *, of_loop: bool = False
    ) -> None:
        """Queue the request of a stream, and start the thread; `queued` is told its id before its first event comes."""
        self._home.check("the LLM")
        with interrupts_held(), self._changed:
            (request,) = self._add([group], deliver)
            queued(request)
            if of_loop:
                self._loop_requests.add(request)
            self._start_thread()
            self._notify()

    def close(self) -> None:
        """Cancel what runs, and wait for the step under way; every waiting caller is told. Idempotent."""
        if not self._home.here:
            return  # all of it is the parent's
        with self._changed:
            first = self._ended is None
            for request in list(self._listeners):
                self._engine.cancel(request)
            self._end(RequestError("the LLM was closed", remedy="make another"))
            thread, self._thread = self._thread, None
            if self._stepping is threading.current_thread():  # as the handler of a signal is called within a step
                return
            self._changed.wait_for(lambda: self._stepping is None)
        if thread is not None and thread is not threading.current_thread():
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
            raised(self._ended)

    def _start_thread(self) -> None:
        if self._thread is None:
            arguments = (weakref.ref(self), self._news)
            self._thread = threading.Thread(target=_run, args=arguments, name="forge-engine", daemon=True)
            self._thread.start()

    def _notify(self) -> None:
        """Wake those who wait; the caller holds the condition."""
        self._changed.notify_all()
        if self._thread is not None:
            self._news.put(None)

    def _add(self, groups: Sequence[Group], deliver: Callable[[Event], None]) -> list[str]:
        """Queue requests, all or none; the caller holds the condition."""
        self._check_open()
        requests = self._engine.inbox.submit(groups)
        self._listeners.update(dict.fromkeys(requests, deliver))
        self._notify()
        return requests

    def leave(self, requests: Sequence[str]) -> None:
        """Cancel these requests, in a step if need be; who listens to them is told that they were left."""
        if not requests or not self._home.here:
            return
        with interrupts_held() as held:
            with self._changed:
                for request in requests:
                    if (deliver := self._listeners.pop(request, None)) is not None:
                        deliver(None)
                    if not self._engine.cancel(request):
                        self._loop_requests.discard(request)
                mine = self._claim(self._idle and self._forsaken)
                self._notify()
            if mine:
                self._step(held)

    def left(self, request: str) -> None:
        """As `leave`, from wherever the garbage collector runs: takes no lock, and the thread does it."""
        self._news.put(request)

    def next(self, events: deque[Event]) -> RequestOutput | None:
        """The caller's next output, None if its request was left; steps the engine until it is there, or waits."""
        self._home.check("the LLM")
        while True:
            with self._changed:
                self._changed.wait_for(lambda: events or self._idle)
                if events:
                    return raised(events.popleft())
            with interrupts_held() as held:  # none may come between the claim and the step
                with self._changed:
                    mine = self._claim(self._idle and not events)
                if mine:
                    self._step(held)

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

    def work(self, left: str | None) -> bool:
        """The thread's part, once it is woken: cancel what was `left`, and step while it is the one that does.

        False when all has ended.
        """
        while True:
            gone = [left] if left is not None else []
            left = None
            with suppress(Empty):
                while True:
                    if (request := self._news.get_nowait()) is not None:
                        gone.append(request)
            self.leave(gone)
            with self._changed:
                self._changed.wait_for(lambda: self._ended is not None or not (self._due and self._stepping))
                if self._ended is not None:
                    return False
                if not self._claim(self._due):
                    return True
            with interrupts_held() as held:
                self._step(held)

    @property
    def _due(self) -> bool:
        """Whether the thread is the one to step, and there is something to do; the caller holds the condition."""
        return self._threaded and (bool(self._loop_requests) or self._engine.has_work)

    def _step(self, held: Held) -> None:
        """A step, and more while cancellations wait for one. What goes wrong ends the service.

        The caller has claimed it, and holds interrupts back if it is the main thread. A second one, as pressed when a
        step takes too long, cuts it short: nobody knows then what it has done, and every request is given up.
        """
        while self._stepping:
            try:
                held.cut = True
                outputs = self._engine.step()
                held.cut = False
            except KeyboardInterrupt:
                held.cut = False
                self._engine.abandon()
                with self._changed:
                    self._stepping = None
                    self._tell_all(RequestError("a step was interrupted, and its requests with it", remedy="ask again"))
                return
            except BaseException as error:  # whatever it is, every caller must hear of it; `next` raises it
                held.cut = False
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
        self._tell_all(self._ended)

    def _tell_all(self, error: BaseException) -> None:
        """Every request has ended with `error`; the caller holds the condition."""
        waiting, self._listeners = list(self._listeners.values()), {}
        self._loop_requests.clear()
        for deliver in waiting:
            deliver(error)
        self._notify()


def _run(service: weakref.ref[Service], news: SimpleQueue[str | None]) -> None:
    """The thread."""
    while True:
        left = news.get()
        found = service()
        if found is None or not found.work(left):
            return
        del found


def _close(service: weakref.ref[Service]) -> None:
    """At the end of the interpreter."""
    if (found := service()) is not None:
        found.close()
