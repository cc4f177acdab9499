"""`forge show`: the numbers of a file, and a plan beside them or the reason why there is none."""

from __future__ import annotations

import re

import pytest
from gguf import GGUFReader

from forge.api import DEFAULT_MODEL
from forge.compiled import CompiledModel
from forge.compiled.budget import PARTS, SELDOM, Budget
from forge.gguf import GGUFFile

pytestmark = pytest.mark.cpu


def test_json_counts_what_the_gguf_package_counts(forge):
    shown = forge("show", "--json").json
    tensors = GGUFReader(DEFAULT_MODEL).tensors
    assert shown["parameters"] == sum(int(t.n_elements) for t in tensors)
    assert shown["bytes"] == sum(int(t.n_bytes) for t in tensors)
    assert set(shown["tensors"]) == {t.name for t in tensors}
    by_type = {t.tensor_type.name.lower() for t in tensors}
    assert {name.lower() for name in shown["types"]} == by_type
    assert sum(t["tensors"] for t in shown["types"].values()) == len(tensors)


def test_json_holds_the_hyperparameters_and_the_memory_plan(forge):
    shown = forge("show", "--json", "--context", 512, "--max-seqs", 3, "--target", "gfx1100").json
    assert shown["error"] is None
    assert shown["hyperparameters"]["layers"] == 6 and shown["hyperparameters"]["rope"]["pairs"] == "norm"
    memory = shown["memory"]
    assert (memory["target"], memory["context"], memory["max_seqs"]) == ("gfx1100", 512, 3)
    assert memory["total"] == sum(
        memory[part] for part in ("weights", "pages", "activations", "scratch", "slots", "graphs")
    )
    token = 6 * 2 * 4 * 64 * 2  # layers, keys and values, kv heads, width, bytes of f16
    assert memory["pages"] == memory["num_pages"] * memory["page_size"] * token == 3 * 512 * token
    assert memory["full_contexts"] == 3


def test_a_long_array_is_abbreviated(forge):
    tokens = forge("show", "--json").json["metadata"]["tokenizer.ggml.tokens"]
    assert tokens["length"] == 8192 and tokens["first"][:2] == ["<|bos|>", "<|eos|>"] and len(tokens["first"]) < 10
    text = forge("show").out
    assert "8,192 items: <|bos|>, <|eos|>" in text and len(text) < 10_000


def test_text_names_each_type_and_part(forge):
    lines = forge("show", "--tensors").out.splitlines()
    words = [line.split() for line in lines]
    assert ["q6_K", "5", "5,767,168", "4.7", "MB"] in words
    assert ["blk.5.ffn_down.weight", "q4_K[512,1280]"] in words or ["blk.5.ffn_down.weight", "q6_K[512,1280]"] in words
    assert any(line.startswith("KV pages") for line in lines)


@pytest.mark.parametrize("none", [(), SELDOM])
def test_the_parts_that_are_shown_sum_to_the_total(forge, monkeypatch, none):
    """In `forge show` as in a refusal."""
    budget = Budget(**{name: 0 if name in none else 10**6 << n for n, name in enumerate(PARTS)}, free=10**9)
    monkeypatch.setattr(CompiledModel, "budget", property(lambda self: budget, lambda self, value: None), raising=False)
    table = forge("show", "--target", "cpu").out.split("Memory on")[1].splitlines()[2:]
    rows = [line.rsplit(None, 2)[:2] for line in table if line.endswith(" MB")]
    assert [name.strip() for name, _ in rows[-2:]] == ["total", "free on the device"]
    for sizes in ([size for _, size in rows], re.findall(r"([\d,.]+) MB", str(budget))):
        *parts, total, free = (float(size.replace(",", "")) for size in sizes)
        assert len(parts) == len(PARTS) - len(none)
        assert sum(parts) == total == budget.total / 1e6 and free == 1000


def test_a_model_that_cannot_run_is_shown_with_the_reason(forge, synthetic, tiny_shape, tmp_path):
    path = tmp_path / "other.gguf"
    llama = synthetic.synthetic(tiny_shape, "F16")
    unheard = llama.metadata | {"general.architecture": "unheard"}
    synthetic.write(GGUFFile(path, unheard, llama.tensors), path)
    result = forge("show", path, "--json")
    assert result.code == 0 and result.json["memory"] is None
    assert "unheard" in result.json["error"]["what"] and result.json["error"]["type"] == "UnsupportedError"
    assert "gemma3, llama, qwen2, qwen3, smollm3" in result.json["error"]["remedy"]
    assert "It cannot run here" in forge("show", path).out


def test_files_that_are_no_models(forge, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(DEFAULT_MODEL.read_bytes()[:5000])
    for path in (tmp_path / "missing.gguf", broken, tmp_path):
        result = forge("show", path)
        assert (result.code, result.out) == (3, "") and str(path) in result.err


def test_a_context_beyond_the_models_own_is_wrong_usage(forge):
    assert forge("show", "--context", 4096).code == 2
