"""Faults 8 and 11: a loaded model owes the file nothing, and memory that cannot be had is a MemoryPlanError."""

from __future__ import annotations

import os
import shutil
import time

import pytest
import torch

import forge
from forge.api import DEFAULT_MODEL
from forge.compiled import source as sources
from forge.errors import FileFormatError, MemoryPlanError
from forge.gguf import GGUFFile
from forge.language import interpreted

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
F16 = DEFAULT_MODEL.parents[2] / "tests/models/random-qwen2-f16.gguf"
NO_MEMORY = RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 9 bytes")


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
@pytest.mark.parametrize("change", ["truncate", "rewrite", "remove"])
def test_faults_8_what_becomes_of_the_file_of_a_loaded_model_is_no_matter(change, dtype, tmp_path, one_thread):
    """Also where a weight, f32 or in the type that kernels take, needs no conversion."""
    path = shutil.copy(F16, tmp_path / "model.gguf")
    with forge.LLM(path, target="cpu", context=64, max_seqs=1, dtype=dtype) as llm:
        before = llm.model.logits([5, 6, 7])
        size = os.path.getsize(path)
        if change == "remove":
            os.remove(path)
        elif change == "truncate":
            os.truncate(path, 0)
        else:
            with open(path, "r+b") as file:
                file.write(b"\xff" * size)
        assert torch.equal(llm.model.logits([5, 6, 7]), before)
        params = forge.SamplingParams(max_tokens=2, temperature=0, ignore_eos=True)
        assert len(llm.generate("a b", params)[0].outputs[0].token_ids) == 2


@pytest.mark.parametrize("change", ["rewritten", "longer", "shorter", "replaced"])
def test_faults_8_a_file_that_changed_between_open_and_load_is_refused(change, tmp_path):
    path = shutil.copy(F16, tmp_path / "model.gguf")
    model = forge.compile(GGUFFile.open(path), target="cpu", context=64, max_seqs=1)
    time.sleep(0.02)  # a file system's clock ticks
    if change == "replaced":
        shutil.copy(F16, tmp_path / "other.gguf")
        os.replace(tmp_path / "other.gguf", path)
    elif change == "shorter":
        os.truncate(path, os.path.getsize(path) // 2)
    else:
        with open(path, "r+b") as file:
            file.seek(-4096 if change == "rewritten" else 0, 2)
            file.write(b"\0" * 4096)
    with pytest.raises(FileFormatError, match=r"changed after it was opened|bytes early"):
        model.load()


@pytest.mark.parametrize("error", [NO_MEMORY, MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_faults_11_no_memory_while_loading_is_a_memory_error(error, monkeypatch):
    def fail(*args):
        raise error

    monkeypatch.setattr(sources.GGUFSource, "raw", fail)
    with pytest.raises(MemoryPlanError) as raised:
        forge.LLM(target="cpu", context=64, max_seqs=1)
    assert raised.value.exit_code == 7 and raised.value.__cause__ is error


def test_faults_11_what_is_no_lack_of_memory_stays_what_it_is(monkeypatch):
    def fail(*args):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(sources.GGUFSource, "raw", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        forge.compile(DEFAULT_MODEL, target="cpu", context=64).load()
