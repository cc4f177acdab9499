"""The reader finds what the `gguf` package finds, copies nothing, and types what it hands out."""

from __future__ import annotations

import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from loading.gguf_draft import (
    ARRAY,
    BOOL,
    F64,
    I8,
    I16,
    I64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    array,
    scalar,
    string,
    tiny_llama,
)

from forge.errors import FileFormatError
from forge.gguf import GGUFFile
from forge.graph.types import DTYPES, tensor

pytestmark = pytest.mark.null

ROOT = Path(__file__).parents[2]
MODELS = sorted([*(ROOT / "tests" / "models").glob("*.gguf"), *(ROOT / "forge" / "assets").glob("*.gguf")])


@pytest.fixture
def write(tmp_path):
    def written(draft, name="x.gguf"):
        path = tmp_path / name
        path.write_bytes(draft.write())
        return path

    return written


def test_there_are_models_to_read():
    assert len(MODELS) >= 5


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_equals_the_gguf_package(path):
    oracle = gguf.GGUFReader(path)
    with GGUFFile.open(path) as ours:
        expected = {k: f.contents() for k, f in oracle.fields.items() if not k.startswith("GGUF.")}
        assert list(ours.metadata) == list(expected)
        for key, value in expected.items():
            got = ours.metadata[key]
            if isinstance(got, np.ndarray):
                assert got.tolist() == value, key
            else:
                assert got == value and type(got) is type(value), key
        assert list(ours.tensors) == [t.name for t in oracle.tensors]
        for t in oracle.tensors:
            got = ours.tensors[t.name]
            assert got.type.shape == tuple(reversed(t.shape.tolist()))
            assert got.type.dtype.name.lower() == t.tensor_type.name.lower()
            assert (got.offset, got.path) == (t.data_offset, path)
            assert got.data.dtype == np.uint8 and got.data.ndim == 1 and got.data.nbytes == got.type.nbytes
            assert np.array_equal(got.data, np.asarray(t.data).view(np.uint8).reshape(-1)), t.name


@pytest.mark.parametrize("kind", list(gguf.GGMLQuantizationType), ids=lambda t: t.name)
def test_every_type_of_the_package_is_read_or_refused(kind, write):
    draft = tiny_llama()
    block, nbytes = gguf.GGML_QUANT_SIZES[kind]
    path = write(draft.tensor("token_embd.weight", kind=int(kind), dims=[block, 3], data=bytes(3 * nbytes)))
    if kind in (gguf.GGMLQuantizationType.Q8_1, gguf.GGMLQuantizationType.Q8_K):  # of activations only
        with pytest.raises(Exception, match=r"tensor 'token_embd.weight' has ggml type") as caught:
            GGUFFile.open(path)
        assert type(caught.value).__name__ == "UnsupportedError"
        return
    found = GGUFFile.open(path).tensors["token_embd.weight"].type
    assert (found.shape, found.dtype.block, found.dtype.nbytes) == ((3, block), block, nbytes)
    assert found.dtype.name.lower() == kind.name.lower() and found.dtype is DTYPES[found.dtype.name]


def test_every_value_type(write):
    draft = tiny_llama()
    values = {
        U8: 255,
        I8: -128,
        U16: 65535,
        I16: -32768,
        U64: 2**64 - 1,
        I64: -(2**63),
        F64: 0.1,
        BOOL: True,
        STRING: "é",
    }
    for kind, value in values.items():
        draft = draft.set(f"one.{kind}", kind, value)
        draft = draft.set(f"many.{kind}", ARRAY, array(kind, [scalar(kind, value)] * 3))
    draft = draft.set("none", ARRAY, array(U32, [])).set("no.strings", ARRAY, array(STRING, []))
    draft = draft.set("nested", ARRAY, array(ARRAY, [array(STRING, [string("a")]), array(U8, [b"\1", b"\2"])]))
    found = GGUFFile.open(write(draft)).metadata
    for kind, value in values.items():
        assert found[f"one.{kind}"] == value and type(found[f"one.{kind}"]) is type(value)
        assert list(found[f"many.{kind}"]) == [value] * 3
    assert list(found["none"]) == [] and found["no.strings"] == []
    assert found["nested"][0] == ["a"] and found["nested"][1].tolist() == [1, 2]


def test_data_is_a_read_only_view_of_the_file_that_outlives_it():
    with GGUFFile.open(MODELS[0]) as model:
        found = next(iter(model.tensors.values()))
    assert not found.data.flags.writeable and not found.data.flags.owndata
    with found.path.open("rb") as file:
        file.seek(found.offset)
        assert file.read(64) == found.data[:64].tobytes()
    assert not model.tensors and not model.metadata


def test_typed_access(write):
    model = GGUFFile.open(write(tiny_llama().set("flag", BOOL, True)))
    assert model.architecture == "llama"
    assert model.require("llama.block_count", int) == 1
    assert model.get("llama.rope.freq_base", float, 0.0) == 10000.0
    assert model.get("absent", int, None) is None
    assert model.require("tokenizer.ggml.token_type", list)[:3] == [3, 3, 1]
    assert model.tensors["token_embd.weight"].type == tensor("f16", 262, 64)
    for key, kind, found in (
        ("flag", int, "True"),
        ("llama.block_count", bool, "1"),
        ("llama.block_count", float, "1"),
        ("general.architecture", int, "'llama'"),
        ("tokenizer.ggml.tokens", str, "an array of 262"),
        ("tokenizer.ggml.token_type", int, "an array of 262"),
    ):
        with pytest.raises(FileFormatError, match=rf"'{key}' must be of type {kind.__name__}, found {found}"):
            model.get(key, kind, None)
    with pytest.raises(FileFormatError, match="'absent' is missing"):
        model.require("absent", int)


@pytest.mark.parametrize("alignment", [1, 8, 32, 4096])
def test_alignment(alignment, write):
    draft = tiny_llama().set("general.alignment", U32, alignment)
    draft.alignment = alignment
    path = write(draft)
    found = GGUFFile.open(path).tensors
    for t in gguf.GGUFReader(path).tensors:
        assert found[t.name].data.tobytes() == t.data.tobytes() and found[t.name].offset % alignment == 0


def test_version_2_and_a_file_without_tensors_are_read(write):
    draft = tiny_llama()
    draft.version = 2
    assert len(GGUFFile.open(write(draft)).tensors) == len(draft.infos)
    draft.infos = []
    assert not GGUFFile.open(write(draft)).tensors


def test_the_offset_of_a_fault_is_named(write):
    path = write(tiny_llama().set("bad", STRING, string("abc", 2**40)))
    at = path.read_bytes().index(string("bad")) + len(string("bad")) + 4
    with pytest.raises(FileFormatError, match=rf"needs {2**40} bytes") as caught:
        GGUFFile.open(path)
    assert caught.value.where == f"{path}, byte {at}"


@pytest.mark.parametrize("make", ["missing", "folder", "nul"])
def test_what_is_no_file(make, tmp_path):
    path = {"missing": tmp_path / "no.gguf", "folder": tmp_path, "nul": "a\0b"}[make]
    with pytest.raises(FileFormatError):
        GGUFFile.open(path)


def test_a_header_as_large_as_the_largest_tokenizers_is_quick(tmp_path):
    tokens = array(STRING, [string(f"Ġtoken{i}") for i in range(128_000)])
    merges = array(STRING, [string(f"Ġtok{i} en{i}") for i in range(280_000)])
    draft = tiny_llama().set("tokenizer.ggml.tokens", ARRAY, tokens).set("tokenizer.ggml.merges", ARRAY, merges)
    path = tmp_path / "large.gguf"
    path.write_bytes(draft.write())
    started = time.process_time()
    model = GGUFFile.open(path)
    assert time.process_time() - started < 1.0  # 0.2 s measured
    assert model.metadata["tokenizer.ggml.merges"][-1] == "Ġtok279999 en279999"
