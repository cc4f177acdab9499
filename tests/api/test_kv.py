"""The element type of the KV pages: what a model of fewer bits says, what it takes, and that the engine serves it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

import forge
from forge.api import DEFAULT_MODEL
from forge.bench.parity import disagreements, goldens, mean_kl
from forge.errors import UsageError
from forge.language import interpreted
from forge.runtime.engine import Engine

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
IDS = [1, *(17 * i % 200 for i in range(60))]
MODELS = Path(__file__).parents[1] / "models"
SMALL = MODELS / "random-qwen3-f16.gguf"  # 64 wide
# Mean KL from f32 pages on the default model, with some room: int8 gives 3e-4, fp8 2.3e-3.
KINDS = {"f16": 1e-6, "bf16": 5e-5, "int8": 1e-3, "fp8": 5e-3}


def compiled(kv: str, model=DEFAULT_MODEL, **limits):
    limits = {"context": 96, "max_seqs": 4, "max_tokens": 64, "max_logits": 64} | limits
    return forge.compile(model, target="cpu", dtype="f32", kv=kv, **limits)


@cache
def said(kv: str) -> torch.Tensor:
    return compiled(kv).logits(next(goldens(MODELS / "tiny-code-f16.golden.npz")).fed[:40])


@pytest.mark.parametrize("kv", KINDS)
def test_fewer_bits_say_nearly_the_same(kv):
    """Of a text that the model was made for; where it is in no doubt it goes on the same."""
    exact, logits = (said(kind) for kind in ("auto", kv))
    assert 0 < mean_kl(exact, logits) < KINDS[kv]
    assert not disagreements(exact, logits, 0.1)


def test_a_page_takes_a_byte_a_number_and_four_a_row():
    one = compiled("int8")
    row = one.config.heads.width + 4
    pages = 2 * one.config.layers * one.config.heads.kv * one.page_size * row
    assert one.budget.pages == one.num_pages * pages == compiled("fp8").budget.pages
    assert compiled("f16").budget.pages == compiled("bf16").budget.pages == one.budget.pages // row * 2 * (row - 4)
    bare = one.budget.total - one.budget.pages
    many = compiled("int8", memory=bare + 10 * pages, max_seqs=4)
    assert many.num_pages == 10


@pytest.mark.parametrize("kv", ["int8", "fp8"])
def test_an_engine_that_takes_pages_away_and_shares_them_gives_what_each_request_gives_alone(kv):
    roomy = compiled(kv, SMALL)
    page = roomy.budget.pages // roomy.num_pages
    tight = compiled(kv, SMALL, memory=roomy.budget.total - roomy.budget.pages + 7 * page)
    assert tight.num_pages == 7
    prompts = [IDS[: 20 + 3 * i] for i in range(4)]
    params = [forge.SamplingParams(n=1 + i % 2, temperature=0.7 * (i % 2), seed=i, max_tokens=20) for i in range(4)]

    def outputs(engine):
        names, found = [engine.add(p, s) for p, s in zip(prompts, params, strict=True)], {}
        while engine.has_work:
            found.update((o.request_id, [c.token_ids for c in o.outputs]) for o in engine.step())
        return [found[name] for name in names]

    engine = Engine(tight, None)
    together = outputs(engine)
    assert engine.stats.preemptions > 0
    assert together == outputs(Engine(roomy, None))


@pytest.mark.parametrize("kv", ["int8", "fp8"])
def test_logits_beside_an_engine_put_its_pages_back(kv):
    model = compiled(kv, SMALL)
    whole = model.logits(IDS)
    states = model.load().states
    before = {name: state.view(torch.uint8).clone() for name, state in states.items() if name.startswith("kv.")}
    assert torch.equal(model.logits(IDS, 7).argmax(-1), whole.argmax(-1))
    assert all(torch.equal(states[name].view(torch.uint8), bits) for name, bits in before.items())
    assert before


def test_a_type_that_there_is_none_of_is_refused():
    with pytest.raises(UsageError, match=r"(?s)kv='int4' on cpu.*auto, f16, bf16, int8, fp8"):
        compiled("int4")
