"""Forward passes through AMD machine code: logits of emulated GPUs against those of the CPU."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from forge.amdgcn.emulate import Emulation
from forge.api import DEFAULT_MODEL
from forge.bench.parity import goldens, mean_kl
from forge.compiled import CompiledModel, GGUFSource, read_model
from forge.gguf import GGUFFile
from forge.language import interpreted

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

MODELS = Path(__file__).parents[1] / "models"
F16 = MODELS / "tiny-code-f16.gguf"
LAYERS, TOKENS = 2, 8


def model(gguf: GGUFFile, target: str, **options) -> CompiledModel:
    """The model's first layers and its head, for a few tokens."""
    whole = read_model(gguf)
    tensors = {
        name: type
        for name, type in whole.tensors.items()
        if not name.startswith("blk.") or int(name.split(".")[1]) < LAYERS
    }
    return CompiledModel(
        replace(whole, config=replace(whole.config, layers=LAYERS), tensors=tensors), GGUFSource(gguf), target,
        context=16, max_tokens=TOKENS, max_seqs=1, max_logits=TOKENS, page_size=16, memory=None, **options,
    )  # fmt: skip


def prompt():
    return next(goldens(MODELS / "tiny-code-f16.golden.npz")).fed[:TOKENS]


@cache
def exact(path: Path) -> torch.Tensor:
    """The CPU's logits, in f32."""
    with GGUFFile.open(path) as gguf:
        return model(gguf, "cpu", act="f32", activations="float").logits(prompt())


@pytest.mark.parametrize(("path", "arch", "chunk"), [
    pytest.param(F16, "gfx942", TOKENS, id="f16-gfx942"),
    pytest.param(F16, "gfx1100", TOKENS, id="f16-gfx1100"),
    pytest.param(F16, "gfx1201", 5, id="f16-gfx1201, 5 and 3 tokens"),
    pytest.param(DEFAULT_MODEL, "gfx1100", 7, id="Q4_K_M-gfx1100, 7 tokens and 1"),
])  # fmt: skip
def test_two_layers_of_tiny_code(path, arch, chunk, monkeypatch):
    done = []
    with GGUFFile.open(path) as gguf:
        emulated = model(gguf, f"emulated:{arch}", act="f16", activations="a16")
        prepare = emulated.on.prepare
        monkeypatch.setattr(emulated.on, "prepare", lambda task: recorded(prepare(task), done))
        logits = emulated.logits(prompt(), chunk)
    steps = -(-TOKENS // chunk)
    # a step of these two layers is 26 launches or more; none is computed in another way
    assert len(done) >= 26 * steps and all(isinstance(d, Emulation) and d.instructions for d in done)
    assert logits.shape == exact(path).shape
    assert 0 < mean_kl(exact(path), logits) < 1e-5
    assert (exact(path).argmax(-1) == logits.argmax(-1)).all()


def recorded(step, done):
    return lambda: done.append(step())


@pytest.mark.parametrize(("kv", "arch"), [("i8", "gfx942"), ("e4m3", "gfx1201")])
def test_two_layers_on_coded_pages(kv, arch):
    """Beside the CPU's on the same kind of pages: a rounding that tips moves a code, so they agree less than in f16."""
    with GGUFFile.open(F16) as gguf:
        logits = model(gguf, f"emulated:{arch}", act="f16", activations="a16", kv=kv).logits(prompt(), 5)
        coded = model(gguf, "cpu", act="f32", activations="float", kv=kv).logits(prompt(), 5)
    assert mean_kl(coded, logits) < mean_kl(exact(F16), coded) / 4
