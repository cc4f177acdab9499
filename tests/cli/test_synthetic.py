"""benchmarks/synthetic.py: shapes and mixes are the real models', and what it writes is a model that runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from gguf import GGUFReader

from forge.api import DEFAULT_MODEL
from forge.gguf import GGUFFile

pytestmark = pytest.mark.cpu


def test_8b_q4_k_m_has_the_types_of_the_published_file(synthetic):
    types = Counter(str(t.dtype) for _, t in synthetic.tensor_types(synthetic.SHAPES["8b"], "Q4_K_M"))
    assert types == {"q4_K": 193, "q6_K": 33, "f32": 65}  # Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf, less rope_freqs


def test_the_mix_is_llama_cpps_own(synthetic, tiny_shape):
    """Against the default model, which llama.cpp quantized: the same types in every layer of the same shape."""
    with GGUFFile.open(DEFAULT_MODEL) as gguf:
        theirs = {n: t.type for n, t in gguf.tensors.items() if n.startswith("blk.")}
    shape = replace(tiny_shape, layers=6, width=512, feed_forward=1280, heads=8, kv_heads=4, head_width=64)
    ours = dict(synthetic.tensor_types(shape, "Q4_K_M"))
    assert {n: t for n, t in ours.items() if n.startswith("blk.")} == theirs
    types = {n: str(t.dtype) for n, t in synthetic.tensor_types(synthetic.SHAPES["8b"], "Q4_K_M")}
    precise = [layer for layer in range(32) if types[f"blk.{layer}.attn_v.weight"] == "q6_K"]
    assert precise == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]


@pytest.mark.parametrize(("shape", "mix", "gigabytes"), [
    ("8b", "Q4_K_M", 4.62), ("8b", "Q8_0", 7.97), ("8b", "F16", 15.0), ("1b", "Q4_K_M", 0.80), ("0.5b", "Q8_0", 0.525),
])  # fmt: skip
def test_bytes_a_token_are_those_of_the_real_shapes(synthetic, shape, mix, gigabytes):
    """Against shared measurements: a decode step reads every weight but the embedding, of which it reads a row."""
    types = dict(synthetic.tensor_types(synthetic.SHAPES[shape], mix))
    read = sum(t.nbytes for name, t in types.items() if name != "token_embd.weight")
    assert read / 1e9 == pytest.approx(gigabytes, rel=0.01)


def test_a_row_that_fills_no_block_falls_back(synthetic):
    types = {n: str(t.dtype) for n, t in synthetic.tensor_types(synthetic.SHAPES["0.5b"], "Q4_K_M")}
    assert types["blk.3.attn_q.weight"] == "q5_0" and types["output.weight"] == "q8_0"
    assert types["blk.2.ffn_down.weight"] in ("q4_K", "q6_K")  # 4864 is a multiple of 256


def test_the_gguf_package_reads_back_what_was_written(synthetic, tiny_shape, tiny_model):
    made = synthetic.synthetic(tiny_shape, "Q8_0").tensors
    read = {t.name: t for t in GGUFReader(tiny_model).tensors}
    assert read.keys() == made.keys()
    for name, tensor in made.items():
        assert np.array_equal(read[name].data.reshape(-1).view(np.uint8), tensor.data)
        assert tuple(int(n) for n in reversed(read[name].shape)) == tensor.type.concrete()


def test_a_sparse_file_has_the_same_tensors_and_takes_no_room(synthetic, tmp_path):
    import forge

    shape, path = replace(synthetic.SHAPES["1b"], vocab=8200), tmp_path / "sparse.gguf"
    synthetic.write_sparse(shape, "Q4_K_M", path)
    assert path.stat().st_size > 600e6 and path.stat().st_blocks * 512 < 10e6
    with GGUFFile.open(path) as gguf:
        types = dict(synthetic.tensor_types(shape, "Q4_K_M"))
        assert {name: t.type for name, t in gguf.tensors.items()} == types
        assert forge.compile(gguf, target="gfx942", context=64).vocab_size == 8200
    last = max(GGUFReader(path).tensors, key=lambda t: t.data_offset)
    assert last.data_offset + last.n_bytes <= path.stat().st_size < last.data_offset + last.n_bytes + 32


def test_it_generates_through_the_command_line(forge, tiny_model):
    output = forge("run", tiny_model, "-p", "hello", "--max-tokens", 5, "--ignore-eos", "--json").json["outputs"][0]
    assert len(output["token_ids"]) == 5 and output["error"] is None


def test_it_compiles_without_a_file(synthetic, tiny_shape):
    import forge

    shape = replace(tiny_shape, layers=8, width=256, feed_forward=256)
    made = synthetic.synthetic(shape, "Q4_K_M")
    assert all(t.data.nbytes == t.type.nbytes for t in made.tensors.values())
    model = forge.compile(made, target="gfx942", context=64)
    assert model.vocab_size == shape.vocab and model.budget.total > 0
