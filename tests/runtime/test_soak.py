"""The soak of `make soak` asks for all kinds of things, and sees what is lost."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import soak

from forge.runtime.output import CompletionOutput, RequestOutput

pytestmark = pytest.mark.cpu

DONE = CompletionOutput(0, "ab", [5, 6], None, None, "length")


def fault(samples, params, finished=True) -> str:
    return soak.fault_of(RequestOutput("r", None, [1], samples, finished), params)


def test_a_lost_answer_is_a_fault():
    params = SimpleNamespace(n=1, max_tokens=2)
    assert fault([DONE], params) == ""
    assert fault([DONE], params, finished=False) and fault([], params)
    assert fault([replace(DONE, token_ids=[5])], params)
    assert fault([replace(DONE, finish_reason="error")], params) and fault([replace(DONE, finish_reason=None)], params)


def test_a_caller_tells_what_it_did_not_get():
    class Loses:
        def generate(self, prompts, params):
            return [RequestOutput("r", None, [1], [], False)]

        def stream(self, prompt, params):
            raise KeyError("lost")

    record = soak.Record()
    until = soak.time.monotonic() + 0.05
    soak.caller(Loses(), random.Random(1), until, record)
    assert record.faults and record.outcomes["fault"] and set(record.outcomes) <= {"done", "fault"}


def test_wishes_are_of_all_kinds_and_the_same_for_one_seed():
    def made(seed):
        return [(p, e, params) for p, params, e in (soak.wish(random.Random(f"{seed} {i}")) for i in range(60))]

    assert made(1) == made(1) != made(2)
    assert {e for _, e, _ in made(1)} == {"done", "refused"} and {params.n for *_, params in made(1)} == {1, 3}
