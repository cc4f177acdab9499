"""Service: whoever leaves a request, at whatever moment, gives back its pages and its place in the queue."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from runtime.fake_lm import FakeRunner, FakeTokenizer, expected
from runtime.waiting import soon

from forge.errors import RequestError, UsageError
from forge.runtime.engine import Engine
from forge.runtime.output import RequestOutput
from forge.runtime.params import RequestOutputKind, SamplingParams
from forge.runtime.service import Service

pytestmark = pytest.mark.cpu
GREEDY = SamplingParams(temperature=0, max_tokens=20, seed=0, ignore_eos=True)
ENDLESS = SamplingParams(temperature=0, max_tokens=100, seed=0, ignore_eos=True)


class _Held(FakeRunner):
    """A runner whose steps wait for `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.steppers: list[threading.Thread] = []
        self.before_run = self._wait

    def _wait(self, batch: object) -> None:
        self.steppers.append(threading.current_thread())
        self.began.set()
        assert self.go_on.wait(5)

    def hold(self) -> None:
        self.began.clear()
        self.go_on.clear()


def _service(runner: FakeRunner, max_requests: int | None = 1) -> tuple[Service, Engine]:
    engine = Engine(runner, FakeTokenizer(), max_requests=max_requests)
    return Service(engine), engine


def _works(service: Service, engine: Engine) -> None:
    """Nothing is in use, and another caller is served."""
    assert soon(lambda: engine.pool.used == 0 and not engine.has_work)
    found: list[Any] = []
    caller = threading.Thread(target=lambda: found.extend(service.complete([([1], GREEDY)])), daemon=True)
    caller.start()
    caller.join(5)
    assert found and found[0].outputs[0].token_ids == expected([1], GREEDY).ids


async def _leave(stream: AsyncIterator[RequestOutput]) -> None:
    await cast(Any, stream).aclose()


@pytest.mark.parametrize("during", ["a step", "a pause"])
def test_an_event_loop_s_consumer_leaves(during: str) -> None:
    runner = _Held()
    service, engine = _service(runner)

    async def serve() -> None:
        stream = service.stream_async([3], ENDLESS)
        await anext(stream)
        if during == "a step":
            runner.hold()
            assert await asyncio.to_thread(runner.began.wait, 5)
        started = time.perf_counter()
        await _leave(stream)
        assert time.perf_counter() - started < 2, "the event loop waited for a step"
        runner.go_on.set()
        assert await asyncio.to_thread(soon, lambda: engine.pool.used == 0 and not engine.has_work)

    asyncio.run(serve())
    assert {thread.name for thread in runner.steppers} == {"forge-engine"}, "the event loop's own thread stepped"
    _works(service, engine)
    service.close()


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_thread_leaves_during_the_last_step_of_another(goes_on: bool) -> None:
    """Who then ends, or pauses for as long as it likes."""
    runner = _Held()
    service, engine = _service(runner, max_requests=2)
    left, other = service.stream([2], ENDLESS), service.stream([1], ENDLESS if not goes_on else GREEDY)
    next(left)
    runner.hold()
    beside = threading.Thread(target=lambda: list(other) if goes_on else next(other), daemon=True)
    beside.start()
    assert runner.began.wait(5)
    cast(Any, left).close()
    runner.go_on.set()
    beside.join(5)
    assert len(engine.inbox) == (0 if goes_on else 1)
    cast(Any, other).close()
    assert engine.pool.used == 0
    _works(service, engine)
    service.close()


def test_who_leaves_beside_a_stream_that_pauses_makes_room() -> None:
    service, engine = _service(FakeRunner(), max_requests=2)
    paused, left = service.stream([2], ENDLESS), service.stream([3], ENDLESS)
    next(paused), next(left)
    cast(Any, left).close()
    assert len(engine.inbox) == 1
    assert service.complete([([1], GREEDY)])[0].outputs[0].token_ids == expected([1], GREEDY).ids
    assert len(list(paused)) == 99
    service.close()


@pytest.mark.parametrize("way", ["close", "forget", "keep"])
def test_a_stream_that_is_never_begun_takes_no_place(way: str) -> None:
    service, engine = _service(FakeRunner())
    stream = service.stream([2], ENDLESS)
    if way == "close":
        cast(Any, stream).close()
    elif way == "forget":
        del stream
        gc.collect()
    _works(service, engine)
    service.close()


def test_a_stream_s_wrong_prompt_is_refused_at_the_call() -> None:
    service, _ = _service(FakeRunner())
    with pytest.raises(RequestError):
        service.stream([10**6], GREEDY)
    service.close()


def test_a_stream_that_is_dropped_while_the_inbox_is_locked() -> None:
    """So may the garbage collector do it, in the thread that holds the lock."""
    service, engine = _service(FakeRunner())

    def drop() -> None:
        stream = service.stream([2], ENDLESS)
        next(stream)
        with engine.inbox._lock:
            del stream

    dropping = threading.Thread(target=drop, daemon=True)
    dropping.start()
    dropping.join(5)
    assert not dropping.is_alive()
    _works(service, engine)
    service.close()


def _press_after(owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C once, right after the first call of a method."""
    method = getattr(owner, name)

    def pressed(*args: Any) -> Any:
        monkeypatch.setattr(owner, name, method)
        result = method(*args)
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(owner, name, pressed)


@pytest.mark.parametrize("moment", ["queued", "claimed"])
@pytest.mark.parametrize("way", ["complete", "stream"])
def test_an_interrupt_between_claim_and_step_or_right_after_queueing(
    moment: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, engine = _service(FakeRunner())
    if moment == "queued":
        _press_after(engine.inbox, "submit", monkeypatch)
    else:
        _press_after(service, "_claim", monkeypatch)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            service.complete([([1, 2], GREEDY)]) if way == "complete" else list(service.stream([1, 2], GREEDY))
    finally:
        signal.signal(signal.SIGINT, before)
    _works(service, engine)
    service.close()


@pytest.mark.parametrize("kind", RequestOutputKind)
def test_a_completion_is_whole_whatever_its_steps_would_report(kind: RequestOutputKind) -> None:
    service, _ = _service(FakeRunner())
    params = SamplingParams(temperature=0, max_tokens=20, seed=0, ignore_eos=True, output_kind=kind)
    ((found,),) = (service.complete([([1, 2], params)]),)
    assert found.finished and found.outputs[0].token_ids == expected([1, 2], params).ids
    service.close()


@pytest.mark.parametrize("error", [ZeroDivisionError("a defect"), KeyboardInterrupt(), UsageError("a")])
def test_who_comes_after_the_end_hears_what_those_who_waited_did(error: BaseException) -> None:
    service, _ = _service(FakeRunner())
    with service._changed:
        service._end(error)
    wanted = type(error) if isinstance(error, UsageError) else RuntimeError
    for _ in range(2):
        with pytest.raises(wanted) as raised:
            service.complete([([1], GREEDY)])
        assert raised.value is not error and raised.value.__cause__ is error


@pytest.mark.parametrize("way", ["complete", "stream_async"])
def test_closing_waits_for_the_step_under_way_and_cancels_the_rest(way: str) -> None:
    runner = _Held()
    service, engine = _service(runner)
    runner.hold()

    async def follow() -> None:
        async for _ in service.stream_async([1], ENDLESS):
            pass

    def work() -> None:
        with pytest.raises(RequestError, match="closed"):
            asyncio.run(follow()) if way == "stream_async" else service.complete([([1], ENDLESS)])

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert runner.began.wait(5)
    threading.Timer(0.05, runner.go_on.set).start()
    service.close()
    assert runner.go_on.is_set() and engine.pool.used == 0 and not engine.has_work
    worker.join(5)
    assert not worker.is_alive()


def test_closing_within_a_step_does_not_wait_for_it() -> None:
    runner = FakeRunner()
    service, _ = _service(runner)
    runner.before_run = lambda batch: service.close()
    with pytest.raises(RequestError, match="closed"):
        service.complete([([1], GREEDY)])
    service.close()
