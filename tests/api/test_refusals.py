"""Malformed and hostile files through the whole of compiling: each is a ForgeError, soon and in little memory."""

from __future__ import annotations

import gc
import time
import tracemalloc

import pytest
from loading.malformed import malformed_files, malformed_models

import forge
from forge.errors import ForgeError
from forge.gguf import GGUFFile
from forge.kernels import load
from forge.language import interpreted
from forge.tokenizer import Tokenizer

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


def test_at_least_fifty_malformed_files_are_refused(tmp_path):
    load()  # what a process imports once is not a file's cost
    folders = [tmp_path / "files", tmp_path / "models"]
    for folder in folders:
        folder.mkdir()
    files = [*malformed_files(folders[0]), *malformed_models(folders[1])]
    assert len(files) >= 50
    gc.collect()
    gc.freeze()  # a pause of the collector over what other tests left is not the refusal's time
    for name, path in files:
        tracemalloc.start()
        began = time.process_time()
        with pytest.raises(ForgeError) as caught:
            gguf = GGUFFile.open(path)
            forge.compile(gguf, target="cpu")
            Tokenizer.from_gguf(gguf)
        seconds = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert seconds < 1, f"{name}: {seconds:.2f} s"
        assert peak < 200e6, f"{name}: {peak / 1e6:.0f} MB"
        assert str(caught.value), name
