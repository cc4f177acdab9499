"""Faults, cancellations and arrivals at random moments: no answer is wrong, no page is lost, and the engine goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from runtime.fake_lm import FakeRunner, FakeTokenizer, expected
from runtime.test_engine import _mixed

from forge.errors import DeviceError, MemoryPlanError, StateLostError
from forge.runtime.engine import Engine
from forge.runtime.params import RequestOutputKind
from forge.runtime.runner import Pending

pytestmark = pytest.mark.cpu
KINDS = (DeviceError, MemoryPlanError, torch.OutOfMemoryError, StateLostError, ZeroDivisionError, KeyboardInterrupt)


class FaultyRunner(FakeRunner):
    """A FakeRunner of which every call may fail, before or after it has done its work; so may collecting a step."""

    def __init__(self, rng, rate, **limits):
        super().__init__(**limits)
        self.rng, self.rate, self.faults = rng, rate, 0

    def fault(self):
        if self.rng.random() < self.rate:
            self.faults += 1
            kind = KINDS[self.rng.integers(len(KINDS))]
            if kind is StateLostError:
                self.slots[:], self.states[:] = -7, 99
            raise kind("planted")

    def around(self, call, *args):
        self.fault()
        result = call(*args)
        self.fault()
        return result

    def launch(self, batch):
        step = self.around(super().launch, batch)
        return FaultyStep(step.logits, step.ids, self)

    def keep(self, ids):
        self.around(super().keep, ids)

    def copy_pages(self, copies):
        self.around(super().copy_pages, copies)

    def change_slots(self, copies, cleared):
        self.around(super().change_slots, copies, cleared)


class FaultyStep(Pending):
    def __init__(self, logits, ids, runner):
        super().__init__(logits, ids)
        self.runner = runner

    def collect(self):
        self.runner.fault()
        return super().collect()


LIMITS = (
    {},
    {"num_pages": 18},
    {"num_slots": 8},
    {"max_tokens": 7, "max_seqs": 3, "page_size": 1, "num_pages": 100},
    {"num_slots": 5, "max_seqs": 5, "max_tokens": 7, "num_pages": 18},
)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("seed", range(9))
def test_no_answer_is_wrong_and_no_page_is_lost(seed, ahead, one_thread, monkeypatch):
    rng = np.random.default_rng(seed)
    runner = FaultyRunner(rng, (0.0, 0.01, 0.05)[seed % 3], goes_ahead=ahead, **LIMITS[seed % len(LIMITS)])
    engine = Engine(runner, FakeTokenizer())
    choose = engine._launcher.sampler.launch
    monkeypatch.setattr(engine._launcher.sampler, "launch", lambda *args: runner.around(choose, *args))
    asked, ids, last = {}, {}, {}
    waiting = [(p, replace(q, logprobs=2 if rng.random() < 0.3 else None)) for p, q in _mixed(24, seed)]
    for _ in range(5000):
        if not waiting and not engine.has_work:
            break
        while waiting and rng.random() < 0.4:
            prompt, params = waiting.pop()
            kind = RequestOutputKind.DELTA if rng.random() < 0.5 else RequestOutputKind.CUMULATIVE
            name = engine.add(prompt, replace(params, output_kind=kind))
            asked[name] = prompt, params, kind
        if asked and rng.random() < 0.03:
            engine.cancel(list(asked)[rng.integers(len(asked))])
        try:
            outputs = engine.step()
        except KeyboardInterrupt:
            continue
        for output in outputs:
            name = output.request_id
            for sample in output.outputs:
                known = ids.setdefault((name, sample.index), [])
                if asked[name][2] is RequestOutputKind.CUMULATIVE:
                    known.clear()
                known += sample.token_ids
                if sample.finish_reason is not None:
                    last[name, sample.index] = sample
    assert not engine.has_work and not waiting, "livelock"
    assert engine.pool.used == 0 and engine.pool.free == engine.pool.total
    assert engine.slots is None or engine.slots.used == 0
    assert len(engine._launcher.sampler._counts) == 0 and not engine.scheduler.has_work
    assert len(last) == sum(params.n for _, params, _ in asked.values()), "every sample was reported"
    for (name, index), sample in last.items():
        prompt, params, _ = asked[name]
        want, got = expected(prompt, params, index), ids[name, index]
        if sample.finish_reason in ("abort", "error"):
            assert got == want.ids[: len(got)]
            assert (sample.error is None) == (sample.finish_reason == "abort")
        else:
            assert (got, sample.finish_reason, sample.stop_reason) == (want.ids, want.reason, want.stop)
    assert runner.faults > 0 or runner.rate < 0.05
