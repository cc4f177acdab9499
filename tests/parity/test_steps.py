"""Fused and captured equals unfused and eager: on every golden, and over thousands of steps of changing sequences."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from lower.capturing import Capturing
from parity.lockstep import CLEAR, Lockstep, traffic

import forge
from forge.api import DEFAULT_MODEL
from forge.bench.parity import goldens, mean_kl
from forge.language import interpreted
from forge.runtime.engine import Engine

MODELS = Path(__file__).parents[1] / "models"
GOLDENS = sorted(path.name.removesuffix(".golden.npz") for path in MODELS.glob("*.golden.npz"))
ON_CPU = ("random-qwen3-f16", "random-gemma3-f16")
CPU = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available() or interpreted(), reason="needs a GPU")]
KL = 1e-5


@pytest.fixture(autouse=True)
def quick(one_thread):
    """Small models, step by step."""


def compiled(name, where, plain, **limits):
    path = MODELS / f"{name}.gguf"
    on = "gpu" if where == "gpu" else "cpu" if plain else Capturing()
    options = {} if where == "gpu" else {"dtype": "f32"}
    return forge.compile(path if path.exists() else DEFAULT_MODEL, target=on, plain=plain, **limits, **options)


@cache
def both(name, where):
    limits = {"context": 256, "max_tokens": 256, "max_logits": 256, "max_seqs": 4}
    return tuple(compiled(name, where, plain, **limits) for plain in (False, True))


def each_golden():
    for where, marks, names in (("cpu", CPU, ON_CPU), ("gpu", GPU, GOLDENS)):
        yield from (pytest.param(name, where, id=f"{name}-{where}", marks=marks) for name in names)


def greedy(model, prompt, count):
    engine = Engine(model, None)
    engine.add(prompt, forge.SamplingParams(temperature=0, max_tokens=count, ignore_eos=True))
    while engine.has_work:
        outputs = engine.step()
    return outputs[0].outputs[0].token_ids


@pytest.mark.parametrize(("name", "where"), list(each_golden()))
def test_a_golden_token_by_token(name, where):
    usual, plain = both(name, where)
    for golden in goldens(MODELS / f"{name}.golden.npz"):
        fed = golden.fed if where == "gpu" else golden.fed[:12]
        got, want = (model.logits(fed, chunk=1) for model in (usual, plain))
        assert mean_kl(want, got) < KL
        assert mean_kl(plain.logits(fed), usual.logits(fed)) < KL, "as a prompt"
    assert usual.load().replays.trusted and not usual.load().replays.refused


@pytest.mark.parametrize(("name", "where"), list(each_golden()))
def test_a_golden_goes_on_with_the_same_ids(name, where):
    usual, plain = both(name, where)
    for golden in goldens(MODELS / f"{name}.golden.npz"):
        prompt, count = golden.ids.tolist(), len(golden.greedy) if where == "gpu" else 8
        got, want = (greedy(model, prompt, count) for model in (usual, plain))
        differ = [at for at, (a, b) in enumerate(zip(got, want, strict=True)) if a != b]
        if differ:  # two ids that are as likely, between which rounding may choose, are no defect
            top = plain.logits([*prompt, *want[: differ[0]]])[-1].topk(2).values
            assert top[0] - top[1] < CLEAR, f"token {differ[0]} of {got} is not that of {want}"


def lockstep(name, where, **limits):
    """A Lockstep of fused and captured, of the same launched one by one, and of plain."""
    model, same, plain = (compiled(name, where, plain, **limits) for plain in (False, False, True))
    same.load().replays = None
    return Lockstep(model, same, plain)


RUNS = [
    pytest.param(
        "random-qwen3-f16",
        "cpu",
        200,
        {"context": 64, "max_seqs": 4, "max_tokens": 6, "page_size": 4},
        id="cpu",
        marks=CPU,
    ),
    *(
        pytest.param(
            name, "gpu", 4000, {"context": 1024, "max_seqs": 64, "max_tokens": 64}, id=f"{name}-gpu", marks=GPU
        )
        for name in ("tiny-code-Q4_K_M",)
    ),
]


@pytest.mark.parametrize(("name", "where", "steps", "limits"), RUNS)
def test_thousands_of_steps_while_sequences_join_and_leave(name, where, steps, limits):
    runner, most = lockstep(name, where, **limits), limits["max_seqs"]
    engine = Engine(runner, None)
    traffic(engine, steps, most, limits["context"])
    assert engine.pool.used == 0 and engine.stats.failed == 0 and engine.stats.steps >= steps * 0.99
    assert (runner.bits, runner.wrong) == (0, 0) and runner.kl < KL
    sizes = [1 << i for i in range(most.bit_length())]
    assert set(sizes) <= set(runner.seen), "each bucket of decoding was run"
    assert runner.longest == limits["context"] - 1, "pages grew to a whole context"
    replays = runner.load().replays
    assert not replays.refused and {t for _, _, t in replays.trusted} >= set(sizes)


WHERE = [pytest.param("cpu", marks=CPU), pytest.param("gpu", marks=GPU)]
FEW = {"context": 32, "max_seqs": 2, "max_tokens": 4, "page_size": 4}


@pytest.mark.parametrize("where", WHERE)
def test_a_replay_with_the_arguments_of_its_capture_is_refused_and_no_step_is_wrong(where, monkeypatch):
    runner = lockstep("random-qwen3-f16", where, **FEW)
    capture, staging = runner.on.capture, runner.load()._staging

    now = torch.empty_like(staging.device)

    def stale(calls):
        kept = staging.device.clone()
        before = (lambda: now.copy_(staging.device), lambda: staging.device.copy_(kept))
        return capture([*before, *calls, lambda: staging.device.copy_(now)])

    monkeypatch.setattr(runner.on, "capture", stale)
    with pytest.warns(RuntimeWarning, match="is not replayed: its replay gave another"):
        traffic(Engine(runner, None), 60, 2, 32)
    assert runner.load().replays.refused and not runner.load().replays.trusted
    assert (runner.bits, runner.wrong) == (0, 0)


@pytest.mark.parametrize("where", WHERE)
def test_a_replay_that_goes_stale_once_it_is_trusted_would_be_seen_here(where, monkeypatch):
    runner = lockstep("random-qwen3-f16", where, **FEW)
    capture, staging = runner.on.capture, runner.load()._staging
    old, gone = torch.zeros_like(staging.device), torch.zeros((), dtype=torch.bool, device=runner.device)
    now, place = torch.empty_like(staging.device), staging.device

    def later(calls):
        before = (lambda: now.copy_(place), lambda: torch.where(gone, old, now, out=place))
        return capture([*before, *calls, lambda: place.copy_(now)])

    monkeypatch.setattr(runner.on, "capture", later)
    engine = Engine(runner, None)
    traffic(engine, 60, 2, 32)
    assert runner.load().replays.trusted and runner.bits == 0
    gone.fill_(True)
    traffic(engine, 20, 2, 32, seed=1)
    assert runner.bits > 0
