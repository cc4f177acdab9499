"""Service: what the engine's thread meets reaches every caller, and no caller waits for ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from runtime.fake_lm import FakeRunner, FakeTokenizer, expected

from forge.errors import ForgeError, RequestError
from forge.runtime.engine import Engine
from forge.runtime.params import SamplingParams
from forge.runtime.service import Service

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


def test_a_defect_ends_the_service_and_every_caller_hears_of_it() -> None:
    runner = FakeRunner()
    service = Service(Engine(runner, FakeTokenizer()))
    all_there = threading.Barrier(2)

    def burst(batch: object) -> None:
        raise ZeroDivisionError("a defect")

    runner.before_run = burst
    endless = SamplingParams(temperature=0, max_tokens=100, seed=0, ignore_eos=True)

    def stream() -> list[object]:
        outputs = service.stream([1, 2], endless)
        all_there.wait(5)
        return list(outputs)

    for outcome in _outcomes(stream, stream):
        assert isinstance(outcome, RuntimeError) and isinstance(outcome.__cause__, ZeroDivisionError), outcome
    assert isinstance(_outcomes(lambda: service.complete([([1], GREEDY)]))[0], ZeroDivisionError)
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
