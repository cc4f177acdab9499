"""What `forge bench model` holds a rate against: bytes and products that a step cannot do without, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import forge as package
from forge.bench.limit import Limit, Rates, StepWork, limit_of, rates_of
from forge.bench.model import Test
from forge.lower import rates

pytestmark = pytest.mark.cpu

Test.__test__ = False  # pytest: it is no test of ours
Q8 = 34 / 32  # bytes a weight
D, F, H, K, E, V, LAYERS = 64, 96, 4, 2, 32, 8200, 2  # tiny_shape
MATRICES = LAYERS * (2 * D * H * E + 2 * D * K * E + 3 * D * F)
NORMS = (2 * LAYERS + 1) * D * 4
HEAD = V * D
KEY = LAYERS * 2 * K * E * 2  # bytes of a token's keys and values in f16


@pytest.fixture(scope="module")
def model(tiny_model):
    return package.compile(tiny_model, target="sm_90", max_seqs=8)


def test_a_step_reads_each_weight_once_the_keys_of_each_sequence_and_rows_of_the_embedding(model):
    for seqs, context in ((1, 1), (1, 100), (8, 100)):
        cost = StepWork(model).cost(seqs, 1, context)
        least = (MATRICES + HEAD) * Q8 + NORMS + seqs * (context * KEY + D * Q8)
        # The call that looks rows up costs its ids and its result besides.
        assert least <= cost.bytes <= least + seqs * 4 * (D + 1) + 64
        pairs = LAYERS * 4 * H * E * context
        assert cost.flops == pytest.approx(seqs * (2 * (MATRICES + HEAD) + pairs), rel=1e-3)


def test_keys_and_values_count_as_they_are_kept(tiny_model):
    key = {}
    for kept in ("f16", "int8"):
        work = StepWork(package.compile(tiny_model, target="sm_90", max_seqs=1, kv=kept))
        key[kept] = work.cost(1, 1, 101).bytes - work.cost(1, 1, 1).bytes
    assert key["f16"] == 100 * KEY and key["int8"] == 100 * LAYERS * 2 * K * (E + 4), "a code each, and an f32 a head"


def test_a_tied_table_counts_whole_as_it_is_the_head_too(synthetic, tiny_shape, model):
    gguf = synthetic.synthetic(tiny_shape, "Q8_0")
    del gguf.tensors["output.weight"]
    tied = package.compile(gguf, target="sm_90", max_seqs=8)
    rows = StepWork(model).cost(1, 1, 9).bytes - StepWork(tied).cost(1, 1, 9).bytes
    assert 0 < rows < 500  # of another table, which the untied model reads a row of


def test_prefill_multiplies_each_token_and_counts_pairs_that_are_seen(model):
    cost = StepWork(model).cost(1, 40, 100)
    pairs = sum(range(61, 101))
    assert cost.flops == pytest.approx(40 * 2 * MATRICES + 2 * HEAD + LAYERS * 4 * H * E * pairs, rel=0.01)


def test_a_window_bounds_the_keys_that_are_read_and_seen(model, monkeypatch):
    whole = StepWork(model)
    key, pair = whole._attention[0][1:]
    monkeypatch.setattr(StepWork, "_attention", ((10, key, pair), (0, key, pair)))
    for tokens, context in ((1, 5), (1, 100), (40, 60)):
        found = StepWork(model).cost(1, tokens, context)
        full = whole.cost(1, tokens, context)
        seen = [min(10, c) for c in range(context - tokens + 1, context + 1)]
        read = min(context, 10 + tokens - 1)
        assert full.bytes - found.bytes == key * (context - read)
        assert full.flops - found.flops == pair * (sum(range(context - tokens + 1, context + 1)) - sum(seen))


def test_the_limit_is_the_slower_of_reading_and_multiplying_step_by_step(model):
    slow_memory, slow_products = Rates(1.0, 1e6, "f16"), Rates(1e6, 1e-3, "f16")
    work = StepWork(model)
    read = sum(work.cost(2, 1, 50 + i).bytes for i in (1, 2, 3, 4))
    test = Test(gen=4, depth=50, seqs=2)
    assert limit_of(model, test, slow_memory) == Limit(pytest.approx(8 / (read / 1e9)), "memory")
    flops = sum(work.cost(2, 1, 50 + i).flops for i in (1, 2, 3, 4))
    assert limit_of(model, test, slow_products) == Limit(pytest.approx(8 / (flops / 1e9)), "compute")
    level = Rates(1.0, 1e-3 * flops / read / 0.9, "f16")  # multiplying takes 0.9 of the time of reading, beside it
    assert limit_of(model, test, level) == Limit(pytest.approx(8 / (read / 1e9)), "memory")
    both = Test(prompt=30, gen=2, depth=50)  # the prompt's step gives the first id, and two more follow
    read = work.cost(1, 30, 80).bytes + work.cost(1, 1, 81).bytes + work.cost(1, 1, 82).bytes
    assert limit_of(model, both, slow_memory).tokens_per_second == pytest.approx(32 / (read / 1e9))


def test_a_prompt_in_chunks_reads_the_weights_for_each(synthetic, tiny_shape):
    gguf = synthetic.synthetic(replace(tiny_shape, context=4096), "Q8_0")
    model = package.compile(gguf, target="sm_90", context=4096, max_seqs=1, max_tokens=1024)
    work = StepWork(model)
    chunks = sum(work.cost(1, 1024, end).bytes for end in (1024, 2048, 3072)) + work.cost(1, 28, 3100).bytes
    found = limit_of(model, Test(prompt=3100), Rates(1.0, 1e6, "f16"))
    assert found.tokens_per_second == pytest.approx(3100 / (chunks / 1e9))


def test_rates_are_measured_in_the_type_that_the_model_multiplies(tiny_model, forge):
    for dtype in ("f32", "bf16"):
        found = rates_of(package.compile(tiny_model, target="cpu", dtype=dtype))
        assert found.dtype == dtype and found.gbps > 0.1 and found.tflops > 1e-4
    assert rates.product_tflops(torch.device("cpu"), "f16") > 0
    shown = forge("bench", "model", tiny_model, "--target", "cpu", "-p", "8", "-n", "0", "-r", "1")
    assert shown.out.count("Measured in this run: a copy") == 1 and "product of bf16" in shown.out
