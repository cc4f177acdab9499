"""Weights streamed in pieces equal the serial loader's, bit for bit; what fails is the caller's error."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
import torch

import forge
from forge.api import DEFAULT_MODEL
from forge.compiled.source import GGUFSource
from forge.errors import FileFormatError
from forge.gguf import GGUFFile
from forge.graph.ir import Graph
from forge.graph.leaves import Part
from forge.graph.types import tensor
from forge.language import interpreted
from forge.lower.loading import load_weights
from forge.lower.upload import upload
from forge.lower.weights import Storage, natural
from forge.models.instance import RandomWeights
from forge.quant import Packed

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
MODELS = sorted([DEFAULT_MODEL, *(Path(__file__).parents[1] / "models").glob("*.gguf")])
CPU = torch.device("cpu")


def same(a, b) -> bool:
    if isinstance(a, Packed):
        tables = (a.table is None and b.table is None) or torch.equal(a.table, b.table)
        return tables and a.planes.keys() == b.planes.keys() and all(same(a.planes[n], b.planes[n]) for n in a.planes)
    return a.dtype == b.dtype and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def weights(source, *leaves):
    """Storages of weights in their own layouts."""
    graph = Graph()
    made = [graph.weight(parts, type, axis=axis).node for parts, type, axis in leaves]
    return {leaf: Storage(leaf, natural(leaf.types[0])) for leaf in made}


@pytest.mark.parametrize("target", ["cpu", "gfx942"])
@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_every_model_is_loaded_as_by_the_serial_loader(path, target):
    model = forge.compile(path, target=target, context=64, max_tokens=8, max_seqs=2)
    told = []
    # Rows of 512 weights in Q4_K are 288 bytes: pieces cut nearly every tensor, and lanes are used again and again.
    got = upload(model.plan.weights, model.source, CPU, lambda *now: told.append(now), piece=200_000)
    serial = []
    want = load_weights(model.plan.weights, model.source, CPU, lambda *now: serial.append(now))
    assert list(got) == list(want) and all(same(got[leaf], want[leaf]) for leaf in want)
    assert told == serial


@pytest.mark.parametrize("piece", [1, 300, 1000, 1 << 20])
@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_K", "mxfp4"])
def test_parts_and_long_rows(kind, piece):
    """Rows longer than a piece, parts of rows, stacks of rows, columns, and stacks within experts."""
    types = {"a": tensor(kind, 7, 512), "b": tensor(kind, 3, 512), "e": tensor(kind, 2, 3, 512)}
    source = RandomWeights(types)
    storages = weights(
        source,
        ("a", types["a"], 0),
        ((Part("a"), Part("b")), tensor(kind, 10, 512), 0),
        ((Part("b"), Part("a", 0, 2, 6)), tensor(kind, 7, 512), 0),
        ((Part("a", 1, 256, 512),), tensor(kind, 7, 256), 0),
        ((Part("a", 0, 0, 3), Part("b")), tensor(kind, 3, 1024), 1),
        ((Part("e", 0, 1, 2),), tensor(kind, 1, 3, 512), 0),
        ((Part("e"), Part("e")), tensor(kind, 2, 6, 512), 1),
    )
    got = upload(storages, source, CPU, piece=piece)
    assert all(same(got[leaf], storage.load(source, CPU)) for leaf, storage in storages.items())


@pytest.fixture
def copy(tmp_path):
    path = tmp_path / "model.gguf"
    shutil.copyfile(DEFAULT_MODEL, path)
    return path


def test_a_file_cut_off_is_an_error_with_tensor_and_file(copy):
    model = forge.compile(copy, target="gfx942", context=64)
    with open(copy, "r+b") as file:
        file.truncate(copy.stat().st_size - 1000)
    with pytest.raises(FileFormatError, match=r"changed after it was opened|ends .* bytes early") as error:
        upload(model.plan.weights, model.source, CPU, piece=1 << 16)
    tensors = GGUFFile.open(DEFAULT_MODEL).tensors
    assert str(copy) in error.value.where and any(f"tensor {name}," in error.value.where for name in tensors)


def test_a_file_that_is_gone_is_an_error(copy):
    model = forge.compile(copy, target="gfx942", context=64)
    copy.unlink()
    with pytest.raises(FileFormatError, match="cannot be read"):
        upload(model.plan.weights, model.source, CPU)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_no_thread_and_reads_no_more(error):
    model = forge.compile(DEFAULT_MODEL, target="gfx942", context=64)
    reads, source = [], GGUFSource(GGUFFile.open(DEFAULT_MODEL))

    class Counting:
        raw, type_of = source.raw, source.type_of

        def read(self, *args):
            reads.append(args)
            source.read(*args)

    def stop(done, total):
        raise error

    with pytest.raises(error):
        upload(model.plan.weights, Counting(), CPU, stop, piece=1 << 14)
    assert not [t for t in threading.enumerate() if t.name.startswith("forge-read")]
    assert len(reads) < 400  # of 800: those of the first weight, and what was asked for ahead


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_has_what_the_serial_loader_gives():
    model = forge.compile(DEFAULT_MODEL, target="gpu", context=64)
    got = upload(model.plan.weights, model.source, model.device, piece=1 << 16)
    for leaf, storage in model.plan.weights.items():
        want = storage.load(model.source, CPU)
        assert same(got[leaf].to("cpu"), want)
