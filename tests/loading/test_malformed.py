"""A malformed file is a ForgeError, within a second and 200 MB, and never another exception.

Memory is what Python and NumPy allocate while the file is loaded, its peak by `tracemalloc`; the map itself is not
memory of ours.
"""

from __future__ import annotations

import time
import tracemalloc

import pytest
from loading.gguf_draft import tiny_llama
from loading.malformed import malformed_files

from forge.errors import ForgeError
from forge.gguf import GGUFFile
from forge.tokenizer import Tokenizer

pytestmark = pytest.mark.null


def load(path):
    with GGUFFile.open(path) as model:
        return Tokenizer.from_gguf(model), model.architecture


def test_the_unbent_file_loads(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_llama().write())
    tokenizer, architecture = load(path)
    assert architecture == "llama" and tokenizer.decode(tokenizer.encode("hello, hé")) == "hello, hé"


def test_every_malformed_file_is_refused_quickly_and_cheaply(tmp_path):
    files = malformed_files(tmp_path)
    assert len(files) >= 50
    faults = []
    tracemalloc.start()
    try:
        for name, path in files:
            tracemalloc.reset_peak()
            before, started = tracemalloc.get_traced_memory()[0], time.process_time()
            try:
                load(path)
                faults.append(f"{name}: accepted")
            except ForgeError as refused:
                if str(path) not in refused.where:
                    faults.append(f"{name}: the error does not name the file: {refused}")
            seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1] - before
            if seconds > 1 or peak > 200e6:
                faults.append(f"{name}: {seconds:.2f} s, {peak / 1e6:.0f} MB")
    finally:
        tracemalloc.stop()
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_changed_never_escape(tmp_path, seed):
    """Any change to a header is read as a model or refused; nothing else is raised. 75 files a seed."""
    import random

    rng = random.Random(seed)
    whole = tiny_llama().write()
    header = whole.index(b"blk.0.ffn_down.weight") + 64
    path = tmp_path / "x.gguf"
    for _ in range(75):
        raw = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 8])):
            raw[rng.randrange(header)] = rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        path.write_bytes(raw)
        try:
            load(path)
        except ForgeError:
            continue
