"""A thousand steady steps of decoding: each is one replay, for which nothing is prepared, captured or allocated."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from lower.capturing import Capturing

import forge
from forge.language import interpreted
from forge.lower.executable import Executable
from forge.lower.staging import Staging
from forge.runtime.engine import Engine
from forge.runtime.transfer import Download

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
MODEL = Path(__file__).parents[1] / "models" / "random-qwen3-f16.gguf"
STEPS = 1000


def counted(monkeypatch, counter, owner, name):
    real = getattr(owner, name)

    def call(*args, **kwargs):
        counter[name] += 1
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


def test_a_thousand_steady_steps(monkeypatch, one_thread):
    device, counter, sequences = Capturing(), Counter(), 2
    model = forge.compile(MODEL, target=device, context=1024, max_seqs=4, max_tokens=4)
    engine = Engine(model, None)
    for i in range(sequences):
        engine.add([i], forge.SamplingParams(temperature=0, max_tokens=1020, ignore_eos=True))
    for _ in range(12):
        engine.step()
    for owner, name in ((Executable, "_allocate"), (Executable, "_prepare"), (Staging, "send"), (Download, "wait")):
        counted(monkeypatch, counter, owner, name)
    executable, used = model.load(), engine.pool.used
    before = device.prepared, device.captured, len(executable._bindings), executable.replays.trusted
    replayed = device.replayed
    for _ in range(STEPS):
        engine.step()
    assert counter == {"send": STEPS, "wait": STEPS}, "inputs go once, ids come once, and nothing is made"
    assert device.replayed - replayed == STEPS
    assert (device.prepared, device.captured, len(executable._bindings), executable.replays.trusted) == before
    assert engine.pool.used >= used + sequences * (STEPS // model.page_size), "though pages grew"
