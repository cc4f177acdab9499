"""CompiledModel.logits: those of the ops' references, at every position, and nobody's pages are the worse for it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import forge
from forge.bench.parity import evaluated_logits, mean_kl
from forge.errors import UsageError
from forge.language import interpreted
from forge.runtime.engine import Engine

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
IDS = [1, *(17 * i % 900 for i in range(40))]
GREEDY = forge.SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
PROMPTS = [[5, 9, 2], list(range(30)), [700, 3]]


@pytest.fixture(scope="module")
def model():
    return forge.compile(forge.api.DEFAULT_MODEL, target="cpu", dtype="f32", context=64, max_seqs=4, max_logits=12)


def _finals(engine, meanwhile=lambda step: None):
    names, found = [engine.add(p, GREEDY) for p in PROMPTS], {}
    for step in range(1000):
        if not engine.has_work:
            break
        found.update((o.request_id, o.outputs[0].token_ids) for o in engine.step())
        meanwhile(step)
    return [found[name] for name in names]


def test_they_are_the_references_(model):
    exact = evaluated_logits(model, np.array(IDS))
    for ids, chunk in ((IDS, None), (np.array(IDS, np.int32), 1), (torch.tensor(IDS), 7)):
        logits = model.logits(ids, chunk)
        assert logits.shape == (41, model.vocab_size) and logits.dtype == torch.float32 and logits.device.type == "cpu"
        assert mean_kl(exact, logits) < 1e-6


def test_an_engine_that_runs_the_model_goes_on_as_if_nothing_had_been(model):
    alone, whole = _finals(Engine(model, None)), model.logits(IDS)

    def ask(step):
        if step % 4 == 1:
            assert torch.equal(model.logits(IDS), whole)

    assert _finals(Engine(model, None), ask) == alone


def test_other_threads_may_ask_while_an_engine_steps(model):
    alone, whole = _finals(Engine(model, None)), model.logits(IDS)
    answers, done = [], threading.Event()

    def work():
        while not done.is_set():
            answers.append(torch.equal(model.logits(IDS), whole))

    asking = threading.Thread(target=work)
    asking.start()
    try:
        assert _finals(Engine(model, None)) == alone
    finally:
        done.set()
        asking.join(30)
    assert answers and all(answers)


@pytest.mark.parametrize(
    ("ids", "chunk", "what"),
    [
        ([], None, "float64\\[0\\]"),
        ([[1, 2]], None, "int64\\[1, 2\\]"),
        ([0.5], None, "float64"),
        ([3, -1], None, "from -1 to 3"),
        ([10**6], None, "1000000"),
        ([1] * 65, None, "65 ids are over the context length of 64"),
        ([1], 13, "chunk=13"),
        ([1], 0, "chunk=0"),
        ([1], 1.5, "chunk=1.5"),
        ([1], True, "chunk=True"),
    ],
)
def test_what_is_not_possible_is_refused(model, ids, chunk, what):
    with pytest.raises(UsageError, match=what):
        model.logits(ids, chunk)
