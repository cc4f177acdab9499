"""Faults 9 and 10: how streams and services end. Whatever the order, nothing hangs, nothing is kept, nothing aborts.

The kind: every way of leaving (close, drop, cancel, a loop that is gone, the end of the interpreter), every handler of
SIGINT and any number of presses, and every use in a forked child.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from runtime.fake_lm import FakeRunner, FakeTokenizer, expected
from runtime.waiting import soon

from forge.errors import RequestError, UsageError
from forge.runtime.engine import Engine
from forge.runtime.params import SamplingParams
from forge.runtime.service import Service

pytestmark = pytest.mark.cpu
GREEDY = SamplingParams(temperature=0, max_tokens=20, seed=0, ignore_eos=True)
ENDLESS = SamplingParams(temperature=0, max_tokens=100, seed=0, ignore_eos=True)


def _service() -> tuple[Service, Engine, FakeRunner]:
    runner = FakeRunner()
    engine = Engine(runner, FakeTokenizer())
    return Service(engine), engine, runner


def _works(service: Service, engine: Engine) -> None:
    assert soon(lambda: engine.pool.used == 0 and not engine.has_work)
    assert service.complete([([1], GREEDY)])[0].outputs[0].token_ids == expected([1], GREEDY).ids


@pytest.mark.parametrize("way", ["stream", "stream_async", "thread", "serve"])
def test_faults_9_a_script_that_ends_within_a_stream_ends_well(way: str) -> None:
    """The interpreter goes only when no thread is within a step; a step here leaves a mark when it is cut off."""
    script = f"""
import asyncio, sys, threading, time
sys.path.insert(0, "tests")
from runtime.fake_lm import FakeRunner, FakeTokenizer
from forge.runtime.engine import Engine
from forge.runtime.params import SamplingParams
from forge.runtime.service import Service
runner, began = FakeRunner(), threading.Event()
def step(batch):
    began.set(); print("in", flush=True); time.sleep(0.2); print("out", flush=True)
runner.before_run = step
service = Service(Engine(runner, FakeTokenizer()))
endless = SamplingParams(temperature=0, max_tokens=100, ignore_eos=True)
async def leave():
    async for _ in service.stream_async([1], endless):
        break
def quietly():
    try: service.complete([([1], endless)])
    except Exception: pass
way = {way!r}
if way == "stream": next(service.stream([1], endless))
if way == "stream_async": asyncio.run(leave())
if way == "serve": service.serve()
if way in ("thread", "serve"): threading.Thread(target=quietly, daemon=True).start()
began.wait()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    assert ended.stdout.count("in") == ended.stdout.count("out") > 0


@pytest.mark.parametrize("way", ["stream", "stream_async", "serve", "finished"])
def test_faults_9_what_is_dropped_is_collected(way: str) -> None:
    """A service with its engine and model, and the thread that served it."""
    service, engine, _ = _service()

    async def one(service: Service) -> Any:
        stream = service.stream_async([1], ENDLESS)
        await anext(stream)
        return stream

    async def whole(service: Service) -> None:
        assert [o async for o in service.stream_async([1], GREEDY)][-1].finished

    kept: list[Any] = []
    if way == "stream":
        kept.append(service.stream([1], ENDLESS))
        next(kept[0])
    elif way == "serve":
        service.serve()
    else:
        kept.append(asyncio.run(one(service) if way == "stream_async" else whole(service)))
    thread, gone = service._thread, weakref.ref(engine)
    assert thread is not None
    del service, engine
    kept.clear()
    assert soon(lambda: gc.collect() >= 0 and gone() is None)
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("way", ["drop", "aclose", "cancel", "closed loop", "blocked loop"])
def test_faults_9_who_leaves_an_async_stream_gives_its_pages_back_at_once(way: str) -> None:
    """With nobody else to step, and even if its loop makes no turn any more."""
    service, engine, _ = _service()
    loop = asyncio.new_event_loop()
    stream: Any = service.stream_async([3], ENDLESS)
    loop.run_until_complete(anext(stream))
    if way == "aclose":
        loop.run_until_complete(stream.aclose())
    elif way == "cancel":

        async def cancel() -> None:
            task = asyncio.ensure_future(anext(stream))
            while not task.done() and engine.pool.used:
                task.cancel()
                await asyncio.sleep(0)

        loop.run_until_complete(cancel())
    elif way == "closed loop":
        loop.close()
    else:
        if way == "drop":
            loop.close()
        del stream
    _works(service, engine)
    service.close()
    loop.close()


@pytest.mark.parametrize("begun", [False, True])
def test_faults_9_a_stream_that_another_thread_closes_ends(begun: bool) -> None:
    service, engine, runner = _service()
    within, go_on = threading.Event(), threading.Event()

    def hold(batch: object) -> None:
        if len(found) == int(begun):
            within.set()
            go_on.wait(5)

    found: list[Any] = []
    stream = service.stream([2], ENDLESS)
    runner.before_run = hold
    reader = threading.Thread(target=lambda: [found.append(o) for o in stream], daemon=True)
    reader.start()
    assert within.wait(5)
    with pytest.raises(UsageError, match="another thread"):
        next(stream)
    closing = threading.Thread(target=stream.close, daemon=True)
    closing.start()
    go_on.set()
    closing.join(5), reader.join(5)
    assert not reader.is_alive() and not closing.is_alive() and len(found) == int(begun)
    assert list(stream) == []
    _works(service, engine)
    service.close()


@pytest.mark.parametrize("lock", ["inbox", "service"])
def test_faults_9_a_stream_dropped_under_a_lock_that_another_wants_does_not_deadlock(lock: str) -> None:
    """As the garbage collector does it in the middle of `Engine.add`: the locks are taken in the other order there."""
    service, engine, _ = _service()
    streams = [service.stream([2], ENDLESS)]
    next(streams[0])
    held = engine.inbox._lock if lock == "inbox" else service._changed
    other = service._changed if lock == "inbox" else engine.inbox._lock
    both, done = threading.Barrier(2, timeout=5), threading.Event()

    def drop() -> None:
        with held:
            both.wait()
            streams.clear()
        done.set()

    threading.Thread(target=drop, daemon=True).start()
    with other:
        both.wait()
        assert done.wait(5), "the drop waits for a lock"
    _works(service, engine)
    service.close()


def _pressing(runner: FakeRunner, presses: int) -> None:
    """Press Ctrl-C so often within the third step."""
    steps: list[int] = []

    def press(batch: object) -> None:
        steps.append(0)
        if len(steps) == 3:
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)

    runner.before_run = press


@pytest.mark.parametrize("presses", [1, 2, 5])
@pytest.mark.parametrize("way", ["complete", "stream"])
def test_faults_10_ctrl_c_however_often_is_one_interrupt_and_the_service_goes_on(way: str, presses: int) -> None:
    service, engine, runner = _service()
    _pressing(runner, presses)
    beside = service.stream([4], GREEDY)
    next(beside)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            service.complete([([1, 2], GREEDY)]) if way == "complete" else list(service.stream([1, 2], GREEDY))
        runner.before_run = lambda batch: None
        if presses == 1:
            assert list(beside)[-1].finished
        else:
            with pytest.raises(RequestError, match="interrupted"):
                list(beside)
        _works(service, engine)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    service.close()


@pytest.mark.parametrize("presses", [1, 2, 5])
@pytest.mark.parametrize("handler", ["ignored", "own", "default action"])
def test_faults_10_handlers_of_others_stay_theirs(handler: str, presses: int) -> None:
    """An own handler gets every press, SIG_IGN none, and both are there afterwards."""
    service, _, runner = _service()
    heard: list[int] = []
    own: Callable[..., Any] = lambda number, frame: heard.append(number)  # noqa: E731
    installed: Any = {"ignored": signal.SIG_IGN, "own": own, "default action": signal.SIG_DFL}[handler]
    seen: list[Any] = []
    _pressing(runner, presses if handler != "default action" else 0)
    press = runner.before_run
    runner.before_run = lambda batch: (seen.append(signal.getsignal(signal.SIGINT)), press(batch))[1]  # type: ignore[func-returns-value]
    before = signal.signal(signal.SIGINT, installed)
    try:
        assert service.complete([([1], GREEDY)])[0].outputs[0].token_ids == expected([1], GREEDY).ids
        assert signal.getsignal(signal.SIGINT) is installed
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(heard) == (presses if handler == "own" else 0)
    assert handler == "own" or set(seen) == {installed}
    service.close()


@pytest.mark.parametrize("use", ["complete", "stream", "next", "stream_async", "serve", "close"])
@pytest.mark.parametrize("locked", [False, True])
def test_faults_10_use_in_a_forked_child_is_an_error_and_never_waits(use: str, locked: bool) -> None:
    """Whatever locks other threads held when it was forked; closing there does nothing."""
    service, engine, _ = _service()
    service.serve()
    stream = service.stream([2], ENDLESS)
    next(stream)

    async def follow() -> None:
        async for _ in service.stream_async([1], GREEDY):
            pass

    calls: dict[str, Callable[[], Any]] = {
        "complete": lambda: service.complete([([1], GREEDY)]),
        "stream": lambda: next(service.stream([1], GREEDY)),
        "next": lambda: list(stream),
        "stream_async": lambda: asyncio.run(follow()),
        "serve": service.serve,
        "close": lambda: (stream.close(), service.close()),
    }
    ready, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with service._changed, engine.inbox._lock:
            ready.set()
            go_on.wait(5)

    if locked:
        threading.Thread(target=hold, daemon=True).start()
        assert ready.wait(5)
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            calls[use]()
            os._exit(0)
        except UsageError:
            os._exit(3)
        except BaseException:
            os._exit(4)
    _, status = os.waitpid(child, 0)
    go_on.set()
    assert os.waitstatus_to_exitcode(status) == (0 if use == "close" else 3)
    stream.close()
    _works(service, engine)
    service.close()
