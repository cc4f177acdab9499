"""Service: what the engine's thread meets reaches every caller, and no caller waits for ever."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from runtime.fake_lm import FakeRunner, FakeTokenizer, expected
from runtime.waiting import soon

from forge.errors import ForgeError, QueueFullError, RequestError
from forge.runtime.batch import Batch
from forge.runtime.engine import Engine
from forge.runtime.params import SamplingParams
from forge.runtime.service import Prompt, Service

pytestmark = pytest.mark.cpu
GREEDY = SamplingParams(temperature=0, max_tokens=20, seed=0, ignore_eos=True)


def _outcomes(*calls: Callable[[], Any]) -> list[Any]:
    """What each call gave or raised, all at once in threads of their own; "waits" for one that never came back."""
    found: list[Any] = ["waits"] * len(calls)

    def work(i: int) -> None:
        try:
            found[i] = calls[i]()
        except Exception as raised:
            found[i] = raised

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    return found


def test_each_caller_gets_its_own_outputs() -> None:
    service = Service(Engine(FakeRunner(), FakeTokenizer()))
    prompts = [[i, i + 1] for i in range(1, 9)]
    found = _outcomes(*(lambda p=p: service.complete([(p, GREEDY)])[0] for p in prompts))
    assert [o.outputs[0].token_ids for o in found] == [expected(p, GREEDY).ids for p in prompts]
    service.close()


def test_what_ends_the_service_is_heard_by_every_caller() -> None:
    runner = FakeRunner()
    service = Service(Engine(runner, FakeTokenizer()))
    all_there = threading.Barrier(2)

    def burst(batch: object) -> None:
        raise SystemExit("somebody wants the process to end")

    runner.before_run = burst
    endless = SamplingParams(temperature=0, max_tokens=100, seed=0, ignore_eos=True)

    def stream() -> list[object]:
        outputs = service.stream([1, 2], endless)
        all_there.wait(5)
        return list(outputs)

    for outcome in _outcomes(stream, stream):
        assert isinstance(outcome, RuntimeError) and isinstance(outcome.__cause__, SystemExit), outcome
    (late,) = _outcomes(lambda: service.complete([([1], GREEDY)]))
    assert isinstance(late, RuntimeError) and isinstance(late.__cause__, SystemExit)
    service.close()


def test_closing_wakes_those_who_wait() -> None:
    runner = FakeRunner()
    service = Service(Engine(runner, FakeTokenizer()))
    started, go_on = threading.Event(), threading.Event()

    def hold(batch: object) -> None:
        started.set()
        go_on.wait(5)

    def close() -> None:
        started.wait(5)
        threading.Timer(0.05, go_on.set).start()
        service.close()

    runner.before_run = hold
    waiting, closed = _outcomes(lambda: service.complete([([1], GREEDY)]), close)
    assert isinstance(waiting, ForgeError) and "closed" in str(waiting) and closed is None
    with pytest.raises(RequestError, match="closed"):
        service.complete([([1], GREEDY)])


def test_an_interrupt_waits_for_the_step_and_loses_only_its_request() -> None:
    """Ctrl-C in the middle of a step reaches the caller after it; the service goes on."""
    runner = FakeRunner()
    service = Service(Engine(runner, FakeTokenizer()))
    steps = []

    def press(batch: object) -> None:
        steps.append("began")
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)
            steps.append("went on")

    runner.before_run = press
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            service.complete([([1, 2], GREEDY)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert steps == ["began", "began", "began", "went on"]
    runner.before_run = lambda batch: None
    assert service.complete([([1, 2], GREEDY)])[0].outputs[0].token_ids == expected([1, 2], GREEDY).ids
    service.close()


def test_a_lone_caller_computes_in_its_own_thread() -> None:
    runner, seen = FakeRunner(), set()
    runner.before_run = lambda batch: seen.add(threading.current_thread())
    service = Service(Engine(runner, FakeTokenizer()))
    service.complete([([1], GREEDY)])
    assert seen == {threading.current_thread()}
    service.close()


class _SlowTokenizer(FakeTokenizer):
    """Encodes a text that begins with "long" once it is told to."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        if text.startswith("long"):
            self.began.set()
            assert self.go_on.wait(4), "the others waited for this one"
        return super().encode(text)


def test_a_long_prompt_holds_up_no_event_loop_and_no_caller() -> None:
    """While it is encoded, other requests of the loop and of threads run to their end."""
    tokenizer = _SlowTokenizer()
    service = Service(Engine(FakeRunner(), tokenizer))
    other = expected([1], GREEDY).ids

    async def gather(prompt: Prompt) -> list[int]:
        outputs = [output async for output in service.stream_async(prompt, GREEDY)]
        return outputs[-1].outputs[0].token_ids

    async def serve() -> list[int]:
        slow = asyncio.create_task(gather("long"))
        while not tokenizer.began.is_set():
            await asyncio.sleep(0.001)
        assert await asyncio.wait_for(gather([1]), 5) == other
        ((found,),) = (await asyncio.wait_for(asyncio.to_thread(service.complete, [([1], GREEDY)]), 5),)
        assert found.outputs[0].token_ids == other and not slow.done()
        tokenizer.go_on.set()
        return await asyncio.wait_for(slow, 5)

    assert asyncio.run(serve()) == expected(FakeTokenizer().encode("long"), GREEDY).ids
    service.close()


@pytest.mark.parametrize("way", ["complete", "stream"])
def test_a_long_prompt_of_a_thread_holds_up_no_other(way: str) -> None:
    tokenizer = _SlowTokenizer()
    service = Service(Engine(FakeRunner(), tokenizer))

    def slow() -> Any:
        if way == "complete":
            return service.complete([("long", GREEDY)])[0]
        return list(service.stream("long", GREEDY))[-1]

    def quick() -> Any:
        tokenizer.began.wait(5)
        found = service.complete([([1], GREEDY)])[0]
        tokenizer.go_on.set()
        return found

    long, short = _outcomes(slow, quick)
    assert short.outputs[0].token_ids == expected([1], GREEDY).ids
    assert long.outputs[0].token_ids == expected(FakeTokenizer().encode("long"), GREEDY).ids
    service.close()


def test_once_it_serves_one_thread_steps_for_all() -> None:
    runner, seen = FakeRunner(), set()
    runner.before_run = lambda batch: seen.add(threading.current_thread().name)
    service = Service(Engine(runner, FakeTokenizer()))
    service.serve()
    prompts = [[i, i + 1] for i in range(1, 7)]
    found = _outcomes(*(lambda p=p: service.complete([(p, GREEDY)])[0] for p in prompts))
    assert [o.outputs[0].token_ids for o in found] == [expected(p, GREEDY).ids for p in prompts]
    for output in service.stream([5], SamplingParams(temperature=0, max_tokens=90, ignore_eos=True)):
        assert not output.finished
        break
    assert soon(lambda: service._engine.pool.used == 0), "the thread hears of who left"
    assert service.complete([([1], GREEDY)])[0].outputs[0].token_ids == expected([1], GREEDY).ids
    assert seen == {"forge-engine"}
    service.close()
    with pytest.raises(RequestError, match="closed"):
        service.serve()


def test_while_an_event_loop_s_request_runs_its_thread_steps_and_then_callers_do_again() -> None:
    runner, seen, joined = FakeRunner(), list[str](), threading.Event()
    service = Service(Engine(runner, FakeTokenizer()))

    def note(batch: Batch) -> None:
        seen.append(threading.current_thread().name)
        while len(seen) > 1 and not joined.is_set():  # the stream must not end before the other request is there
            joined.wait(0.001)
            if len(service._engine.inbox) > 1:
                joined.set()

    runner.before_run = note

    async def both() -> None:
        endless = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
        stream = service.stream_async([3], endless)
        await anext(stream)
        await asyncio.to_thread(service.complete, [([1], GREEDY)])
        assert set(seen) == {"forge-engine"}
        async for _ in stream:
            pass

    asyncio.run(both())
    seen.clear()
    service.complete([([1], GREEDY)])
    assert set(seen) == {threading.current_thread().name}
    service.close()


def test_a_full_queue_is_told_to_who_comes_and_the_others_go_on() -> None:
    service = Service(Engine(FakeRunner(), FakeTokenizer(), max_requests=2))
    with pytest.raises(QueueFullError, match="max_requests=2"):
        service.complete([([i], GREEDY) for i in (1, 2, 3)])  # all, or none
    assert not service._engine.has_work
    stream = service.stream([4], GREEDY)
    next(stream)
    with pytest.raises(QueueFullError):
        service.complete([([1], GREEDY), ([2], GREEDY)])
    assert service.complete([([1], GREEDY)])[0].outputs[0].token_ids == expected([1], GREEDY).ids
    assert list(stream)[-1].finished
    service.close()
