"""On a GPU the sampler queues its work without waiting, and gives the CPU's ids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.runner import Pending
from forge.runtime.sampling import Sampler, greedy_ids

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

PARAMS = [
    SamplingParams(temperature=0),
    SamplingParams(seed=1),
    SamplingParams(seed=2, top_k=20, top_p=0.9),
    SamplingParams(seed=3, min_p=0.05, temperature=0.7),
    SamplingParams(seed=4, repetition_penalty=1.2, frequency_penalty=0.5),
    SamplingParams(temperature=0, presence_penalty=1.5, min_tokens=9, stop_token_ids=[3, 5]),
]


def _requests() -> list[Request]:
    requests = [Request(str(i), [1, 2, 3], PARAMS[i % 6], index=i, stop_ids=frozenset((3, 5))) for i in range(24)]
    for request in requests:
        request.tokens += [7, 7, 8]
    return requests


def test_choosing_never_waits_and_equals_the_cpu() -> None:
    vocab = 128_256
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 4, (24, vocab)).astype(np.float32))
    logits[2, 11] = torch.nan
    cpu = Sampler(vocab, torch.device("cpu"))
    want = cpu.launch(Pending(logits, greedy_ids(logits)), _requests()).collect().ids
    device, requests = torch.device("cuda"), _requests()
    sampler, there = Sampler(vocab, device), logits.to(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = sampler.launch(Pending(there, greedy_ids(there)), requests)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert pending.collect().ids.tolist() == want.tolist() and want[2] == -1
