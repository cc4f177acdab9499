"""Tests of `forge bench model` that begin at a depth: what is held is right, is computed once, and is given back."""

from __future__ import annotations

import pytest
from lower.capturing import Capturing

import forge as package
from forge.bench import model as bench
from forge.bench.held import Held, raise_errors, token_ids
from forge.bench.limit import Rates
from forge.bench.model import Test, check, measure
from forge.errors import UnsupportedError, UsageError
from forge.runtime.engine import Engine
from forge.runtime.params import SamplingParams

pytestmark = pytest.mark.cpu

Test.__test__ = False  # pytest: it is no test of ours
RATES = Rates(10.0, 1.0, "f32")


@pytest.fixture(scope="module", params=["cpu", "goes ahead"])
def model(tiny_model, request):
    """On a CPU, and on one of which steps are captured and launched ahead, as on a GPU."""
    on = "cpu" if request.param == "cpu" else Capturing()
    return package.compile(tiny_model, target=on, dtype="f32", max_seqs=3, context=128)


def finished(engine: Engine) -> list[list[int]]:
    """The ids of the requests that run, in their order."""
    ended = {}
    while engine.has_work:
        ended |= {o.request_id: o.outputs[0].token_ids for o in raise_errors(engine.step()) if o.finished}
    return [ended[name] for name in sorted(ended, key=lambda name: int(name.rsplit("-", 1)[1]))]


def from_scratch(model, prompts: list[list[int]], outputs: int) -> list[list[int]]:
    engine = Engine(model, None)
    for prompt in prompts:
        engine.add(prompt, SamplingParams(temperature=0, max_tokens=outputs, ignore_eos=True))
    return finished(engine)


@pytest.mark.parametrize("depth", [1, 15, 16, 33, 100])
def test_a_request_at_a_depth_gives_what_the_whole_prompt_gives(model, depth):
    engine = Engine(model, None)
    held = Held(engine, model.vocab_size)
    prompts = [token_ids(s, depth + 5, model.vocab_size) for s in range(3)]
    expected = from_scratch(model, prompts, 20)
    for _ in range(2):  # the second finds what the first wrote behind the depth
        held.begin(depth, 3, 5, 20)
        assert [r.computed for r in engine.scheduler.running] == [depth] * 3
        tables = [tuple(r.pages) for r in engine.scheduler.running]
        assert len({page for table in tables for page in table}) == sum(map(len, tables)), "pages are no one else's"
        steps = engine.stats.steps
        assert finished(engine) == expected
        assert engine.stats.steps - steps == 20, "a step a token: nothing is computed again"
    held.release()
    assert engine.pool.used == 0


def test_what_is_held_is_extended_cut_and_given_back(model):
    engine = Engine(model, None)
    held = Held(engine, model.vocab_size)
    computed = []
    schedule = engine.scheduler.schedule
    engine.scheduler.schedule = lambda: computed.extend(slices := schedule()) or slices
    for depth, seqs in ((20, 1), (50, 1), (50, 3), (7, 2), (30, 2)):
        held.begin(depth, seqs, 1, 3)
        prompts = [token_ids(s, depth + 1, model.vocab_size) for s in range(seqs)]
        assert finished(engine) == from_scratch(model, prompts, 3)
        assert engine.pool.used == seqs * engine.pool.pages_for(depth)
        assert not engine.has_work and not engine.scheduler.running
    prefilled = [(s.start, s.end) for s in computed if s.length > 1]
    assert prefilled == [(0, 20), (20, 50), (0, 50), (0, 50), (7, 30), (7, 30)]
    held.release()
    assert engine.pool.used == 0


def test_a_model_whose_sequences_have_state_of_their_own_is_refused(model, monkeypatch):
    monkeypatch.setattr(model, "num_slots", 3)
    check(model, [Test(gen=4)])
    with pytest.raises(UnsupportedError, match=r"tg4 @ d5: .*not in pages"):
        check(model, [Test(gen=4, depth=5)])


def test_a_depth_is_prefilled_once_a_row_and_is_not_in_the_time(tiny_model, monkeypatch):
    model = package.compile(tiny_model, target="cpu", max_seqs=2)
    runs = []
    run = bench._run

    def counted(engine, held, test):
        before = engine.stats.steps
        clock = iter((0.0, 2.0))
        monkeypatch.setattr(bench, "perf_counter", lambda: next(clock))
        rate = run(engine, held, test)
        runs.append((str(test), engine.stats.steps - before, rate))
        return rate

    monkeypatch.setattr(bench, "_run", counted)
    tests = [Test(gen=4, depth=90), Test(prompt=8, depth=90, seqs=2), Test(prompt=6, gen=5, depth=40)]
    rows = list(measure(model, tests, 2, RATES))
    # Of each the first run computes what is not held, in a step and one more, in which it is left.
    first = [("tg4 @ d90", 4 + 1, 2.0), ("pp8 x2 @ d90", 1 + 1, 8.0), ("pp6+tg5 @ d40", 1 + 5, 5.5)]
    assert [r for i, r in enumerate(runs) if i % 3 == 0] == first
    then = [("tg4 @ d90", 4, 2.0), ("pp8 x2 @ d90", 1, 8.0), ("pp6+tg5 @ d40", 6, 5.5)]
    assert [r for i, r in enumerate(runs) if i % 3] == [row for row in then for _ in range(2)]
    assert [row.rates for row in rows] == [(2.0, 2.0), (8.0, 8.0), (5.5, 5.5)]


def test_tests_run_until_graphs_are_in_use_before_they_are_timed(tiny_model, monkeypatch):
    model = package.compile(tiny_model, target=Capturing(), max_seqs=1)
    steps = []
    run = bench._run
    monkeypatch.setattr(bench, "_run", lambda engine, *a: (run(engine, *a), steps.append(engine.stats.steps))[0])
    warmed = (
        (Test(prompt=8), 4),
        (Test(gen=2), 2),
        (Test(gen=9), 1),
        (Test(prompt=8, depth=60), 4),
        (Test(prompt=8, gen=9), 4),
        (Test(prompt=65), 1),
        (Test(prompt=65, gen=2), 2),
    )
    for test, warm in warmed:
        steps.clear()
        list(measure(model, [test], 1, RATES))
        assert len(steps) == warm + 1, str(test)
    assert len(model.load().replays.trusted) == 2, "of 8 tokens, and of one"


def test_sequences_that_would_not_keep_their_pages_are_refused(tiny_model):
    whole = package.compile(tiny_model, target="cpu", max_seqs=2)
    less = whole.budget.total - 4 * whole.budget.pages // whole.num_pages
    model = package.compile(tiny_model, target="cpu", max_seqs=2, memory=less)
    assert (whole.num_pages, model.num_pages) == (16, 12)
    check(model, [Test(gen=96, seqs=2), Test(gen=16, depth=80, seqs=2)])
    for test in (Test(gen=97, seqs=2), Test(gen=17, depth=80, seqs=2)):
        with pytest.raises(UsageError, match="needs 14 pages of 16 tokens; there are 12"):
            check(model, [test])


def test_rows_are_named_as_llama_bench_names_them(forge, tiny_model):
    flags = ("-p", "8", "-n", "4", "-pg", "6,3", "-pg", "5,2", "-d", "0", "-d", "16", "-r", "1", "--seqs", "1,2")
    found = forge("bench", "model", tiny_model, *flags, "-o", "json").json
    one = ["pp8", "tg4", "pp6+tg3", "pp5+tg2"]
    names = [*one, *(f"{name} x2" for name in one)]
    assert [row["test"] for row in found["rows"]] == [*names, *(f"{name} @ d16" for name in names)]
    row = found["rows"][-2]
    assert (row["n_prompt"], row["n_gen"], row["n_depth"], row["seqs"], row["tokens"]) == (6, 3, 16, 2, 9)
    assert 0 < row["share_of_limit"] == pytest.approx(row["tokens_per_second"] / row["limit"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("-d", "125"), ("pp512", "--context")),
        (("-p", "0", "-n", "4", "-d", "124"), ("tg4 @ d124", "129 tokens", "128", "--context")),
        (("-p", "0", "-d", "x"), ("'x'", "512,2048")),
        (("-p", "0", "-d", "-1"), ("-d",)),
        (("-pg", "512"), ("'512'", "512,128")),
        (("-pg", "512,0"), ("'512,0'",)),
        (("-pg", "1,2,3"), ("'1,2,3'",)),
        (("-pg", ","), ("','",)),
        (("-p", "8", "--seqs", "4", "--max-seqs", "2"), ("pp8 x4", "--max-seqs")),
        (("-p", "8", "-n", "8", "--graph"), ("cpu", "graphs")),
        (("--breakdown", "-d", "5"), ("-d with --breakdown",)),
        (("--breakdown", "-pg", "5,5"), ("-pg with --breakdown",)),
        (("--breakdown", "--graph"), ("--graph with --breakdown",)),
    ],
)
def test_what_cannot_be_measured_says_why(forge, tiny_model, flags, words):
    result = forge("bench", "model", tiny_model, "--target", "cpu", *flags)
    assert result.code == 2 and not result.out, result.err
    assert all(word in result.err for word in words), result.err
