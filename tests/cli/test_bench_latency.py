"""`forge bench latency`: requests come as they are said to, and what is told of their times adds up."""

from __future__ import annotations

import asyncio
from time import perf_counter
from types import SimpleNamespace

import pytest

import forge as package
from forge.bench.latency import Answer, LatencyRow, Load, measure
from forge.errors import NumericsError, RequestError

pytestmark = pytest.mark.cpu


class Scripted:
    """An LLM whose answers come in outputs of so many tokens each, `step` seconds apart."""

    def __init__(self, *outputs: int, step: float = 0.005) -> None:
        self.outputs, self.step = outputs, step
        self.model = SimpleNamespace(context_length=100, vocab_size=1000)
        self.running = self.most = 0
        self.prompts: list[tuple[int, ...]] = []
        self.error: RequestError | None = None

    async def stream_async(self, prompt, params):
        self.prompts.append(tuple(prompt))
        self.running += 1
        self.most = max(self.most, self.running)
        assert params.max_tokens == sum(self.outputs) and params.ignore_eos
        for count in self.outputs:
            await asyncio.sleep(self.step)
            completion = SimpleNamespace(error=self.error, token_ids=[1] * count)
            yield SimpleNamespace(outputs=[completion])
        self.running -= 1


def test_so_many_requests_run_at_a_time_and_a_new_one_begins_when_one_has_ended():
    llm = Scripted(1, 0, 2)
    row = measure(llm, Load(5, 3, requests=7, concurrency=3))
    assert llm.most == 3 and len(llm.prompts) == 14, "once untimed"
    assert len(set(llm.prompts)) == 7 and {len(p) for p in llm.prompts} == {5}, "no two prompts begin alike"
    begun = sorted(a.begun for a in row.answers)
    ended = sorted(a.begun + a.whole for a in row.answers)
    assert all(b >= e for b, e in zip(begun[3:], ended, strict=False))
    assert all(a.first >= llm.step and a.first < 2 * 3 * llm.step for a in row.answers), (
        "waiting for a turn is not in it"
    )


def test_times_of_a_request_add_up():
    row = measure(Scripted(1, 0, 2, 1), Load(5, 4, requests=4, concurrency=2))
    for answer in row.answers:
        assert len(answer.between) == 3 and answer.between[0] == answer.between[1]
        assert answer.first + sum(answer.between) == pytest.approx(answer.whole)
    assert row.seconds >= max(a.whole for a in row.answers)
    assert row.tokens_per_second == pytest.approx(16 / row.seconds)


def test_requests_that_arrive_begin_when_they_arrive_though_they_wait():
    load = Load(5, 2, requests=6, concurrency=1, rate=1000.0)
    arrivals = load.arrivals
    assert arrivals == Load(5, 2, 6, 6, 1000.0).arrivals and arrivals[0] == 0 and arrivals == sorted(arrivals)
    many = Load(5, 2, 4000, 1, 8.0).arrivals
    assert many[-1] == pytest.approx(4000 / 8, rel=0.1)
    llm = Scripted(1, 1, step=0.02)
    started = perf_counter()
    row = measure(llm, load)
    assert llm.most == 1 and perf_counter() - started >= 2 * 6 * 2 * llm.step
    assert max(a.first for a in row.answers) > 5 * 2 * llm.step, "the last one waited for all others"


def test_percentiles_are_of_all_requests_and_of_all_gaps():
    answers = tuple(Answer(0.0, [(0.001 * (i + 1), 1), (0.001 * (i + 1) + 0.010, 1)]) for i in range(101))
    row = LatencyRow(Load(1, 2, 101, 1), 2.0, answers)
    first, between, whole = (row.milliseconds[name] for name in ("first", "between", "whole"))
    assert (first["p50"], first["p99"], first["max"]) == (pytest.approx(51), pytest.approx(100), pytest.approx(101))
    assert (between["p50"], between["max"], whole["mean"]) == (pytest.approx(10), pytest.approx(10), pytest.approx(61))
    assert row.tokens_per_second == 101 and row.json()["first_ms"] == first
    single = LatencyRow(Load(1, 1, 1, 1), 1.0, (Answer(0.0, [(0.5, 1)]),))
    assert set(single.milliseconds) == {"first", "whole"}, "of one token there is nothing between"


def test_a_request_that_fails_ends_the_measurement_with_its_error():
    llm = Scripted(1, 1)
    llm.error = NumericsError("NaN")
    with pytest.raises(NumericsError, match="NaN"):
        measure(llm, Load(5, 2, 4, 2))


def test_a_model_answers_every_request_and_keeps_no_page(tiny_model):
    with package.LLM(tiny_model, target="cpu", max_seqs=2) as llm:
        row = measure(llm, Load(9, 6, requests=5, concurrency=3))
        assert llm.engine.stats.finished == 10 and llm.engine.pool.used == 0
        assert all(sum(count for _, count in a.came) == 6 and a.first > 0 for a in row.answers)


def test_the_command_prints_a_row_for_each_concurrency(forge, tiny_model):
    flags = ("--target", "cpu", "-p", "8", "-n", "3", "--requests", "3")
    found = forge("bench", "latency", tiny_model, *flags, "-o", "json").json
    assert [(r["test"], r["rate"]) for r in found["rows"]] == [("pp8+tg3 x1", None), ("pp8+tg3 x8", None)]
    assert all(r["first_ms"]["p50"] <= r["first_ms"]["p99"] <= r["whole_ms"]["max"] for r in found["rows"])
    shown = forge("bench", "latency", tiny_model, *flags, "--rate", "50").out
    assert "| pp8+tg3 x3, 50/s |" in shown and "| ms between p99 |" in shown


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("-p", "0"), ("-p 0",)),
        (("-n", "0"), ("-n 0",)),
        (("--requests", "0"), ("--requests 0",)),
        (("--concurrency", "0,1"), ("--concurrency 0",)),
        (("--rate", "0"), ("--rate 0",)),
        (("--rate", "nan"), ("--rate nan",)),
        (("--rate", "inf"), ("--rate inf",)),
        (("-p", "120", "-n", "9"), ("129 tokens", "128", "--context")),
        (("--op", "add"), ("--op",)),
    ],
)
def test_what_cannot_be_measured_says_why(forge, tiny_model, flags, words):
    result = forge("bench", "latency", tiny_model, "--target", "cpu", *flags)
    assert result.code == 2 and not result.out
    assert all(word in result.err for word in words), result.err
