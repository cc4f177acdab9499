"""A thousand steady steps on a GPU: none allocates or compiles, each copies its ids to the host and waits once."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import forge
from forge.runtime.engine import Engine

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
STEPS, WARM = 1000, 16


@pytest.fixture
def no_hidden_waits():
    """Once called, torch raises where it would wait for the device unasked: at a pageable copy, a tensor's number."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def steady(sequences):
    model = forge.compile(forge.api.DEFAULT_MODEL, target="gpu", max_seqs=8)
    engine = Engine(model, None)
    for i in range(sequences):
        engine.add([i, 5, 9], forge.SamplingParams(temperature=0, max_tokens=WARM + STEPS + 4, ignore_eos=True))
    for _ in range(WARM):
        engine.step()
    torch.cuda.synchronize()
    return model, engine


@pytest.mark.parametrize("sequences", [1, 4])
def test_what_the_driver_is_asked_for(sequences):
    _, engine = steady(sequences)
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
        for _ in range(STEPS):
            engine.step()
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
    on_device, asked = Counter(), Counter()
    for event in trace.events():
        (on_device if event.device_type.name == "CUDA" else asked)[event.name] += 1
    copies = {kind: sum(n for name, n in on_device.items() if f"Memcpy {kind}" in name) for kind in ("DtoH", "HtoD")}
    # The trace may lack the end of the step that is under way when it stops.
    assert all(STEPS - 1 <= n <= STEPS + 1 for n in copies.values()), on_device
    kernels = sum(n for name, n in on_device.items() if "Mem" not in name)
    assert kernels > STEPS * 20, "the step runs on the device"
    waits = {name: n for name, n in asked.items() if name.startswith("cuda") and "Synchronize" in name}
    ends = waits.pop("cudaDeviceSynchronize", 0)  # the profiler's own
    assert ends <= 3 and sum(waits.values()) <= STEPS, waits
    made = [
        name for name in asked if any(word in name for word in ("Malloc", "HostAlloc", "Instantiate", "ModuleLoad"))
    ]
    assert not made, made


@pytest.mark.parametrize("sequences", [1, 4])
def test_what_the_host_does(sequences, no_hidden_waits, monkeypatch):
    import triton

    model, engine = steady(sequences)
    counts, wait = Counter(), torch.cuda.Event.synchronize

    def counted(event):
        counts["waits"] += 1
        wait(event)

    def compiled(*args, **kwargs):
        counts["compiled"] += 1

    monkeypatch.setattr(torch.cuda.Event, "synchronize", counted)
    monkeypatch.setattr(triton.knobs.compilation, "listener", compiled)
    executable = model.load()
    no_hidden_waits()
    before = len(executable._bindings), list(executable.replays.trusted), dict(executable.replays.refused)
    for _ in range(STEPS):
        engine.step()
    assert counts == {"waits": STEPS}
    assert (len(executable._bindings), executable.replays.trusted, executable.replays.refused) == before
    assert executable.replays.trusted and not executable.replays.refused
