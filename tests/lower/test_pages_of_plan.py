"""A plan whose number of pages is changed is the plan that would be made with that many."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import pytest

import forge
from forge.api import DEFAULT_MODEL
from forge.graph.verify import verify
from forge.language import interpreted
from forge.lower.pipeline import uncollected

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
MODELS = [DEFAULT_MODEL, *sorted((Path(__file__).parents[1] / "models").glob("random-*.gguf"))]


@pytest.mark.parametrize("target", ["cpu", "gfx942"])
@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_it_equals_the_plan_made_anew(path, target):
    model = forge.compile(path, target=target, context=64, max_tokens=32, max_seqs=2)
    anew = model._plan(model.limits)
    assert str(model.graph) == str(anew.graph)
    verify(model.graph)
    for sizes in anew.sizes:
        assert model.plan.describe(sizes) == anew.describe(sizes)
        assert str(model.plan.schedule(sizes).graph) == str(anew.schedule(sizes).graph)
    assert model.plan.state_bytes("pages") == model.limits.num_pages * model._plan(
        replace(model.limits, num_pages=1)
    ).state_bytes("pages")


def test_garbage_is_looked_for_again():
    assert gc.isenabled()
    with pytest.raises(RuntimeError), uncollected():
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled()
