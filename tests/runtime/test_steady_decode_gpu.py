"""Steady decode on a GPU: nothing is allocated or compiled, and only the sampled ids come to the host."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import forge
from forge.runtime.engine import Engine

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.mark.parametrize("sequences", [1, 4])
def test_steady_decode(sequences):
    model = forge.compile(forge.api.DEFAULT_MODEL, target="gpu", max_seqs=8)
    engine = Engine(model, None)
    for i in range(sequences):
        engine.add([i, 5, 9], forge.SamplingParams(temperature=0, max_tokens=64, ignore_eos=True))
    for _ in range(8):
        engine.step()
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    bindings = len(model.load()._bindings)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
        for _ in range(16):
            engine.step()
        torch.cuda.synchronize()
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
    assert len(model.load()._bindings) == bindings
    events = [e for e in trace.events() if e.device_type.name == "CUDA"]
    to_host = [e for e in events if "Memcpy DtoH" in e.name]
    to_device = [e for e in events if "Memcpy HtoD" in e.name]
    kernels = [e for e in events if "Mem" not in e.name]
    assert len(to_host) == 16, [e.name for e in to_host]
    assert len(to_device) == 16, [e.name for e in to_device]
    assert len(kernels) > 16 * 50, "the step runs on the device"
