"""Faults 11: a step for which there is no memory is tried again with fewer sequences, whatever says so."""

from __future__ import annotations

import pytest
import torch
from runtime.fake_lm import FakeRunner, FakeTokenizer, expected

from forge.errors import MemoryPlanError
from forge.runtime.engine import Engine
from forge.runtime.params import SamplingParams
from forge.runtime.service import Service

pytestmark = pytest.mark.cpu
GREEDY = SamplingParams(temperature=0, max_tokens=20, seed=0, ignore_eos=True)
ERRORS = (
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("could not create a memory object"),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: f"{type(e).__name__} {e}"[:40])
@pytest.mark.parametrize("room", [2, 0])
def test_faults_11_the_step_becomes_smaller_and_the_service_goes_on(error: Exception, room: int) -> None:
    """`room` sequences fit a step; where none does, the requests fail with MemoryPlanError."""
    runner = FakeRunner()

    def step(batch: object) -> None:
        if len(batch.query_start) > room:  # type: ignore[attr-defined]
            raise error

    runner.before_run = step
    service = Service(Engine(runner, FakeTokenizer()))
    prompts = [[i, i + 1] for i in range(1, 7)]
    for prompt, output in zip(prompts, service.complete([(p, GREEDY) for p in prompts]), strict=True):
        (found,) = output.outputs
        if room:
            assert found.token_ids == expected(prompt, GREEDY).ids
        else:
            assert found.finish_reason == "error" and isinstance(found.error, MemoryPlanError)
            assert found.error.exit_code == 7
    runner.before_run = lambda batch: None
    assert service.complete([([1], GREEDY)])[0].outputs[0].token_ids == expected([1], GREEDY).ids
    service.close()
