"""Faults 1: no request's fault ends the service. Whatever is raised wherever in a step, requests end and no more.

The kind's bound: an Exception never leaves `Engine.step`; one that is none (KeyboardInterrupt) leaves it once; in any
case every request is reported, no page or slot is lost, no answer is wrong, and requests that come later are answered.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from runtime.fake_lm import VOCAB, FakeRunner, FakeTokenizer, expected
from runtime.planting import traced
from runtime.test_engine import _mixed

from forge.errors import DefectError, DeviceError, MemoryPlanError, RequestError, StateLostError
from forge.runtime.engine import Engine
from forge.runtime.params import RequestOutputKind, SamplingParams
from forge.runtime.service import Service

pytestmark = pytest.mark.cpu
KINDS = (
    ZeroDivisionError, KeyError, AssertionError, RecursionError, MemoryError, UnicodeDecodeError, StopIteration,
    GeneratorExit, KeyboardInterrupt, SystemExit, RequestError, DeviceError, MemoryPlanError, StateLostError,
    torch.OutOfMemoryError,
)  # fmt: skip
LIMITS = ({}, {"num_pages": 18}, {"num_slots": 5, "max_seqs": 5, "max_tokens": 7, "num_pages": 18})


def _made(kind):
    return kind("utf-8", b"\xff", 0, 1, "planted") if kind is UnicodeDecodeError else kind("planted")


class _Scenario:
    """Requests of all sorts on one engine; a fault may be planted at the n-th time that a function is entered."""

    def __init__(self, limits, ahead):
        self.engine = Engine(FakeRunner(goes_ahead=ahead, **limits), FakeTokenizer())
        self.asked, self.last, self.entered = {}, {}, Counter()
        for i, (prompt, params) in enumerate(_mixed(8, 3)):
            kind = RequestOutputKind.DELTA if i % 2 else RequestOutputKind.CUMULATIVE
            self.asked[self.engine.add(prompt, self._short(params, i, kind))] = prompt, self._short(params, i, kind)

    @staticmethod
    def _short(params, i, kind):
        most = min(params.max_tokens, 9)
        return replace(params, max_tokens=most, logprobs=2 if i % 3 == 0 else None, output_kind=kind)

    def run(self, where=None, time=0, kind=None):
        """Steps to the end; returns what left `step`."""
        left = []

        def seen(code):
            self.entered[code] += 1
            if code is where and self.entered[code] == time:
                raise _made(kind)

        for number in range(400):
            if not self.engine.has_work:
                break
            if number == 3:
                self.engine.cancel(list(self.asked)[5])
            try:
                outputs = traced(self.engine.step, seen)
            except BaseException as error:
                left.append(error)
                continue
            for output in outputs:
                self.last |= {(output.request_id, sample.index): sample for sample in output.outputs}
        return left

    def check(self):
        engine = self.engine
        assert not engine.has_work, "livelock"
        assert engine.pool.used == 0 and engine.pool.free == engine.pool.total
        assert engine.slots is None or engine.slots.used == 0
        assert len(engine._launcher.sampler._counts) == 0 and not engine.scheduler.has_work and not engine._owners
        for name, (prompt, params) in self.asked.items():
            for index in range(params.n):
                got, want = self.last[name, index], expected(prompt, params, index)
                assert got.finished, (name, index)
                if got.finish_reason in ("stop", "length"):
                    assert (got.finish_reason, got.stop_reason) == (want.reason, want.stop)
                    delta = params.output_kind is RequestOutputKind.DELTA
                    assert delta or (got.token_ids, got.text) == (want.ids, want.text)
                assert (got.error is None) == (got.finish_reason != "error")
        late = SamplingParams(temperature=0, max_tokens=5, ignore_eos=True, seed=0)
        name, found = engine.add([4, 5], late), {}
        while engine.has_work:
            found |= {output.request_id: output for output in engine.step()}
        assert found[name].outputs[0].token_ids == expected([4, 5], late).ids


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # planted where a generator is closed
@pytest.mark.parametrize("part", range(6))
def test_a_fault_anywhere_in_a_step_ends_requests_and_no_more(part, one_thread, request):
    """A sixth of the functions for each kind of engine; with --full all of them for each."""
    limits, ahead = LIMITS[part // 2], bool(part % 2)
    whole = _Scenario(limits, ahead)
    assert whole.run() == []
    whole.check()
    points = sorted(whole.entered, key=lambda code: (code.co_filename, code.co_firstlineno))
    assert len(points) > 60, "every function that a step calls is such a point"
    rng = np.random.default_rng(part)
    for code in points if request.config.getoption("--full") else points[part::6]:
        kind, scenario = KINDS[rng.integers(len(KINDS))], _Scenario(limits, ahead)
        left = scenario.run(code, 1 + int(rng.integers(whole.entered[code])), kind)
        assert [type(error) for error in left] in ([], [kind]), (code, left)
        assert not any(isinstance(error, Exception) for error in left), (code, left)
        scenario.check()


class _Poisoned(FakeTokenizer):
    """A tokenizer that fails on one token, in every way it can."""

    def __init__(self, token, kind=IndexError):
        self.token, self.kind = token, kind

    def decode(self, ids, *, skip_special=True):
        if self.token in ids:
            raise self.kind("planted")
        return super().decode(ids)

    def stream(self, *, skip_special=True):
        stream, push, tokenizer, poisoned = super().stream(), super().stream().push, self, []

        def checked(token):
            if token == tokenizer.token:
                poisoned.append(token)
                raise tokenizer.kind("planted")
            return push(token)

        def flush():
            if poisoned:
                raise tokenizer.kind("planted, and again when it is closed")
            return ""

        stream.push, stream.flush = checked, flush
        return stream


@pytest.mark.parametrize("ahead", [False, True])
def test_a_fault_of_one_request_s_text_ends_that_request_alone(ahead):
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, seed=0)
    prompts = [[i, i + 1] for i in range(1, 9)]
    ids = [expected(p, params).ids for p in prompts]
    token = next(t for t in range(VOCAB) if 1 <= sum(t in row for row in ids) <= 4)
    service = Service(Engine(FakeRunner(goes_ahead=ahead), _Poisoned(token)))
    outputs = service.complete([(p, params) for p in prompts])
    for row, output in zip(ids, outputs, strict=True):
        (sample,) = output.outputs
        if token in row:
            assert sample.finish_reason == "error" and isinstance(sample.error, DefectError)
            assert isinstance(sample.error.__cause__, IndexError) and "IndexError: planted" in str(sample.error)
        else:
            assert (sample.token_ids, sample.finish_reason) == (row, "length")
    assert service.complete([([3], replace(params, max_tokens=1))])[0].finished
    service.close()


def test_a_runner_that_fails_once_is_asked_again_for_who_comes_later():
    runner = FakeRunner()
    service = Service(Engine(runner, FakeTokenizer()))
    params, failing = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True, seed=0), threading.Event()
    failing.set()

    def burst(batch):
        if failing.is_set():
            raise ZeroDivisionError("a defect")

    runner.before_run = burst
    (output,) = service.complete([([1, 2], params)])
    assert isinstance(output.outputs[0].error.__cause__, ZeroDivisionError) and output.outputs[0].error.exit_code == 70
    failing.clear()
    assert service.complete([([1, 2], params)])[0].outputs[0].token_ids == expected([1, 2], params).ids
    service.close()


def test_ids_that_the_tokenizer_lacks_stand_for_nothing(monkeypatch):
    params = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, seed=0, logprobs=VOCAB)
    ids = expected([1, 2], params).ids
    fewer = FakeTokenizer()
    fewer.vocab_size = sorted(ids)[len(ids) // 2]
    monkeypatch.setattr(fewer, "decode", _only(fewer.vocab_size, fewer.decode))
    service = Service(Engine(FakeRunner(), fewer))
    (sample,) = service.complete([([1, 2], params)])[0].outputs
    assert sample.token_ids == ids and sample.finish_reason == "length"
    assert sample.text == FakeTokenizer().decode([i for i in ids if i < fewer.vocab_size])
    assert {sample.logprobs[0][t].decoded_token for t in range(fewer.vocab_size, VOCAB)} == {""}
    service.close()


def _only(count, decode):
    def checked(ids, *, skip_special=True):
        assert max(ids) < count
        return decode(ids)

    return checked
