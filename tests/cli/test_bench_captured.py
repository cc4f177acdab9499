"""`--graph`: the step that is timed alone is the engine's own, at its context, and leaves what is held as it was."""

from __future__ import annotations

import pytest
from lower.capturing import Capturing

import forge as package
from forge.bench import captured
from forge.bench.captured import step_alone
from forge.bench.held import Held, raise_errors
from forge.bench.limit import Rates
from forge.bench.model import Test, measure
from forge.bench.timing import Sample
from forge.runtime.engine import Engine

pytestmark = pytest.mark.cpu

Test.__test__ = False  # pytest: it is no test of ours


@pytest.fixture
def model(tiny_model, monkeypatch):
    """A model whose steps are timed as 2 ms, after they have run twice."""
    made = package.compile(tiny_model, target=Capturing(), dtype="f32", max_seqs=2, context=128)
    made.timed = []

    def time_graph(calls, device):
        for call in (*calls, *calls):
            call()
        made.timed.append(calls)
        return Sample((0.002,))

    monkeypatch.setattr(captured, "time_graph", time_graph)
    return made


def ids(engine: Engine) -> list[list[int]]:
    ended = []
    while engine.has_work:
        ended += [o.outputs[0].token_ids for o in raise_errors(engine.step()) if o.finished]
    return ended


@pytest.mark.parametrize(("depth", "context"), [(0, 5), (20, 31), (32, 33), (37, 90)])
def test_a_step_alone_is_at_its_context_and_spoils_nothing(model, monkeypatch, depth, context):
    engine, batches = Engine(model, None), []
    held = Held(engine, model.vocab_size)
    held.begin(depth, 2, 1, 6)
    before, used = ids(engine), engine.pool.used
    launch = type(model).launch
    monkeypatch.setattr(type(model), "launch", lambda self, b: batches.append(b) or launch(self, b))
    assert step_alone(model, engine, held, 2, context).median == 0.002
    ((batch),) = batches
    assert batch.context_len.tolist() == [context] * 2 and batch.positions.tolist() == [context - 1] * 2
    assert batch.query_len.tolist() == [1, 1] and len(batch.logit_rows) == 2
    pages = -(-context // model.page_size)
    assert len({page for row in batch.page_table for page in row[:pages].tolist()}) == 2 * pages
    assert len(model.timed[0]) == len(model.load().bind({"T": 2, "S": 2, "R": 2}).calls)
    assert engine.pool.used == used
    held.begin(depth, 2, 1, 6)
    assert ids(engine) == before


def test_rows_of_tg_have_the_rate_of_the_graph_alone(model, monkeypatch):
    asked = []
    real = captured.step_alone
    monkeypatch.setattr("forge.bench.model.step_alone", lambda *a: asked.append(a[3:]) or real(*a))
    tests = [Test(gen=4, depth=9, seqs=2), Test(prompt=8), Test(prompt=8, gen=4), Test(gen=1)]
    rows = list(measure(model, tests, 1, Rates(10.0, 1.0, "f32"), graph=True))
    assert asked == [(2, 9 + 2), (1, 1)], "the mean of contexts 10 to 13, rounded down; of 1"
    assert [row.graph_rate for row in rows] == [1000.0, None, None, 500.0]
    shown = [row.json() for row in rows]
    assert shown[0]["share_of_graph"] == pytest.approx(rows[0].mean / 1000) and "share_of_graph" not in shown[1]
