"""Engine on a model made of hashes: batches, chunks, preemption and forks give what one sequence alone gives."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from runtime.fake_lm import EOS, VOCAB, FakeRunner, FakeTokenizer, expected

from forge.errors import (
    CacheFullError,
    DeviceError,
    MemoryPlanError,
    NumericsError,
    QueueFullError,
    RequestError,
    StateLostError,
    UsageError,
)
from forge.runtime.batch import Batch, BatchBuilder
from forge.runtime.engine import Engine
from forge.runtime.output import RequestOutput
from forge.runtime.pages import PagePool
from forge.runtime.params import RequestOutputKind, SamplingParams
from forge.runtime.request import Request
from forge.runtime.runner import Pending
from forge.runtime.scheduler import Slice

pytestmark = pytest.mark.cpu


@pytest.fixture(autouse=True, params=[False, True], ids=["", "ahead"])
def ahead(request, monkeypatch):
    """Every test holds for a runner whose steps are launched before the ids of the last one are known."""
    monkeypatch.setattr(FakeRunner, "ahead", request.param)


def _engine(runner: FakeRunner | None = None, **limits: int) -> Engine:
    return Engine(runner or FakeRunner(**limits), FakeTokenizer())


def _drain(engine: Engine, limit: int = 5000) -> dict[str, RequestOutput]:
    """Step until nothing is left; the last output of each request."""
    last: dict[str, RequestOutput] = {}
    for _ in range(limit):
        if not engine.has_work:
            break
        for output in engine.step():
            last[output.request_id] = output
    assert not engine.has_work, "livelock"
    assert engine.pool.used == 0 and engine.pool.free == engine.pool.total
    return last


def _agree(output: RequestOutput, prompt: list[int], params: SamplingParams) -> None:
    assert output.finished and output.prompt_token_ids == prompt and len(output.outputs) == params.n
    for index, got in enumerate(output.outputs):
        want = expected(prompt, params, index)
        assert (got.index, got.token_ids, got.text) == (index, want.ids, want.text)
        assert (got.finish_reason, got.stop_reason, got.error) == (want.reason, want.stop, None)


def _mixed(count: int, seed: int) -> list[tuple[list[int], SamplingParams]]:
    rng = np.random.default_rng(seed)
    requests = []
    for i in range(count):
        prompt = rng.integers(1, VOCAB, rng.integers(1, 40)).tolist()
        temperature = float(rng.choice([0, 0.7, 1.5]))
        fields: dict[str, Any] = {
            "temperature": temperature,
            "top_k": int(rng.choice([0, 0, 8])),
            "top_p": float(rng.choice([1, 1, 0.9])),
            "min_p": float(rng.choice([0, 0.05])),
            "repetition_penalty": float(rng.choice([1, 1, 1.3])),
            "frequency_penalty": float(rng.choice([0, 0, 0.4])),
            "presence_penalty": float(rng.choice([0, 0, 0.5])),
            "stop": [[], ["a"], ["the", "<2"], ["xyz<", "é"]][rng.integers(4)],
            "stop_token_ids": [[], [5, 9]][rng.integers(2)],
            "ignore_eos": bool(rng.integers(2)),
            "include_stop_str_in_output": bool(rng.integers(2)),
            "min_tokens": int(rng.choice([0, 0, 4])),
            "n": 1 if temperature == 0 else int(rng.choice([1, 1, 3])),
        }
        requests.append((prompt, SamplingParams(seed=i, max_tokens=int(rng.integers(4, 30)), **fields)))
    return requests


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_tokens": 1, "max_seqs": 1},
        {"max_tokens": 7, "max_seqs": 3, "page_size": 1, "num_pages": 100},
        {"num_pages": 18},
        {"page_size": 16, "num_pages": 5, "max_tokens": 200},
        {"num_slots": 8},
        {"num_slots": 5, "max_seqs": 5, "max_tokens": 7, "num_pages": 18},
    ],
    ids=str,
)
def test_every_request_gives_what_it_gives_alone(limits: dict[str, int]) -> None:
    requests = _mixed(24, seed=3)
    engine = _engine(**limits)
    names = [engine.add(prompt, params) for prompt, params in requests]
    last = _drain(engine)
    for name, (prompt, params) in zip(names, requests, strict=True):
        _agree(last[name], prompt, params)
    assert engine.stats.finished == sum(params.n for _, params in requests)
    assert engine.stats.generated_tokens == sum(len(c.token_ids) for o in last.values() for c in o.outputs)
    assert engine.stats.prompt_tokens == sum(len(prompt) for prompt, _ in requests)
    if limits.get("num_pages", 64) < 20:
        assert engine.stats.preemptions > 5
    assert len(engine._launcher.sampler._counts) == 0
    assert engine.slots is None or engine.slots.used == 0


def test_a_seed_gives_the_same_ids_alone_and_beside_seven_others() -> None:
    prompt, params = [3, 1, 4], SamplingParams(seed=42, max_tokens=30, temperature=1.2, ignore_eos=True)
    alone, crowd = _engine(), _engine()
    name = alone.add(prompt, params)
    others = [crowd.add([i, i], SamplingParams(max_tokens=40, ignore_eos=True)) for i in range(1, 8)]
    for _ in range(5):
        crowd.step()
    beside = crowd.add(prompt, params)
    ids = _drain(alone)[name].outputs[0].token_ids
    got = _drain(crowd)
    assert got[beside].outputs[0].token_ids == ids and len(ids) == 30
    assert len({tuple(got[o].outputs[0].token_ids) for o in others}) == 7


def test_without_a_seed_two_runs_differ() -> None:
    engine = _engine()
    names = [engine.add([1, 2], SamplingParams(max_tokens=20, ignore_eos=True)) for _ in range(2)]
    got = _drain(engine)
    assert got[names[0]].outputs[0].token_ids != got[names[1]].outputs[0].token_ids


def test_samples_of_one_prompt_share_its_pages() -> None:
    runner = FakeRunner(page_size=4, num_pages=64)
    engine = _engine(runner)
    prompt, params = [*range(1, 31)], SamplingParams(n=4, seed=9, max_tokens=3, ignore_eos=True)
    name = engine.add(prompt, params)
    engine.step()
    engine.step()
    # Seven full pages once, and for each sample the page of the last two tokens.
    assert engine.pool.used == 7 + 4 and runner.copied == 3
    _agree(_drain(engine)[name], prompt, params)
    assert engine.stats.prompt_tokens == 30


class _Deferred(FakeRunner):
    """A device that is slow: it computes a step when that is collected, from the batch as it then is, in order."""

    def __init__(self, **limits: int) -> None:
        super().__init__(**limits)
        self.queue: list[Callable[[], Pending]] = []
        self.most = 0

    def launch(self, batch: Batch) -> Pending:
        outer, done = self, list[Pending]()

        def compute() -> Pending:
            done.append(super(_Deferred, outer).launch(batch))
            return done[0]

        class Later(Pending):
            def collect(self) -> Any:
                while not done:
                    outer.queue.pop(0)()
                return done[0].collect()

        self.queue.append(compute)
        self.most = max(self.most, len(self.queue))
        rows = len(batch.logit_rows)
        return Later(torch.zeros(rows, VOCAB), torch.zeros(rows, dtype=torch.int64))


def test_the_next_step_is_launched_before_a_step_is_collected() -> None:
    """Two requests take turns: the batch of one is built and launched while the other's step is pending."""
    runner = _Deferred()
    pool = PagePool(runner.num_pages, runner.page_size)
    builder = BatchBuilder(max_tokens=32, max_seqs=8, page_size=4, context_length=128)
    greedy = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    requests = [Request(str(i), [i + 1, i + 2, i + 3], greedy) for i in range(2)]
    pending: deque[tuple[Request, Pending]] = deque()
    for turn in range(24):
        request = requests[turn % 2]
        if turn >= 2:
            waiting, step = pending.popleft()
            waiting.tokens.append(int(step.collect()[0]))
        request.pages += pool.allocate(pool.pages_for(request.wanted) - len(request.pages))
        piece = Slice(request, request.computed, request.wanted - request.computed)
        pending.append((request, runner.launch(builder.build([piece], []))))
        request.computed = request.wanted
    assert runner.most == 2
    for request in requests:
        assert request.output_ids == expected(request.prompt_ids, greedy).ids[:11]


def test_a_step_within_prompts_is_waited_for_after_the_next_launch() -> None:
    runner = _Deferred(max_tokens=4, goes_ahead=False)
    engine = _engine(runner)
    prompt, params = [*range(1, 18)], SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
    name = engine.add(prompt, params)
    _agree(_drain(engine)[name], prompt, params)
    assert runner.most == 2


def _logged(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the engine does from now on, in its order."""
    done: list[str] = []

    def log(owner: object, name: str) -> None:
        method = getattr(owner, name)

        def logged(*args: Any, **options: Any) -> Any:
            done.append(name)
            return method(*args, **options)

        monkeypatch.setattr(owner, name, logged)

    log(engine._runner, "launch")
    log(engine._launcher, "collect")
    log(engine, "_commit")
    return done


def test_steps_that_are_known_are_launched_before_the_last_one_is_collected(
    monkeypatch: pytest.MonkeyPatch, ahead: None
) -> None:
    runner = FakeRunner()
    engine = _engine(runner)
    params = SamplingParams(seed=1, max_tokens=6, ignore_eos=True, repetition_penalty=1.2, logprobs=1)
    prompts = {engine.add(prompt, params): prompt for prompt in ([1, 2], [3])}
    done = _logged(engine, monkeypatch)
    last = _drain(engine)
    for name, prompt in prompts.items():
        _agree(last[name], prompt, params)
    launch, collect, commit = "launch", "collect", "_commit"
    if runner.goes_ahead:
        assert done == [launch, *[launch, collect, commit] * 5, collect, commit]
        assert runner.unknown == 2 * 5
    else:
        assert done == [launch, collect, commit] * 6 and runner.unknown == 0


def test_who_ends_or_comes_while_a_step_is_under_way() -> None:
    """One request is cancelled, one stops, one comes: none of them disturbs the others, and no page is lost."""
    runner = FakeRunner(max_seqs=3)
    engine = _engine(runner)
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    want = expected([1, 1], params)
    stops = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, stop_token_ids=[want.ids[4]])
    names = [engine.add([1, 1], params), engine.add([2, 2], params), engine.add([1, 1], stops)]
    last = {}
    for step in range(40):
        if step == 3:
            assert engine.cancel(names[1])
        if step == 5:
            names.append(engine.add([5], params))
        last |= {o.request_id: o for o in engine.step()}
    _agree(last[names[0]], [1, 1], params)
    _agree(last[names[2]], [1, 1], stops)
    _agree(last[names[3]], [5], params)
    cut = last[names[1]].outputs[0]
    assert cut.finish_reason == "abort" and cut.token_ids == expected([2, 2], params).ids[:3]
    assert not engine.has_work and engine.pool.used == 0 and engine._ahead is None


def test_who_comes_is_seated_at_once_though_others_never_end() -> None:
    engine = _engine(FakeRunner(max_seqs=3))
    endless = SamplingParams(temperature=0, max_tokens=100, ignore_eos=True)
    engine.add([1, 1], endless)
    for _ in range(4):
        engine.step()
    name = engine.add([5], endless)
    came = [any(o.request_id == name for o in engine.step()) for _ in range(3)]
    assert came[-1] and sum(came) >= 2


def test_deltas_add_up_and_hold_stop_text_back() -> None:
    for prompt, params in _mixed(12, seed=8):
        fields = {f: getattr(params, f) for f in params.__slots__}
        delta = SamplingParams(**{**fields, "output_kind": RequestOutputKind.DELTA})
        engine = _engine()
        engine.add(prompt, delta, request_id="x")
        text, ids = dict.fromkeys(range(params.n), ""), {i: list[int]() for i in range(params.n)}
        while engine.has_work:
            for output in engine.step():
                for piece in output.outputs:
                    text[piece.index] += piece.text
                    ids[piece.index] += piece.token_ids
                    whole = expected(prompt, params, piece.index)
                    assert whole.text.startswith(text[piece.index]), "text that a stop string takes back"
        for index in range(params.n):
            want = expected(prompt, params, index)
            assert (text[index], ids[index]) == (want.text, want.ids)


def test_cumulative_and_final_outputs() -> None:
    params = {"seed": 1, "max_tokens": 9, "ignore_eos": True}
    engine = _engine()
    engine.add([2, 3], SamplingParams(**params), request_id="all")
    engine.add([2, 3], SamplingParams(**params, output_kind=RequestOutputKind.FINAL_ONLY), request_id="end")
    seen: list[RequestOutput] = []
    while engine.has_work:
        seen += engine.step()
    assert [len(o.outputs[0].token_ids) for o in seen if o.request_id == "all"] == list(range(1, 10))
    (end,) = [o for o in seen if o.request_id == "end"]
    assert end.finished and end.outputs[0].finished and end.outputs[0].finish_reason == "length"


def test_a_text_prompt_is_encoded_and_reported() -> None:
    engine = _engine()
    name = engine.add("hello", SamplingParams(temperature=0, max_tokens=1))
    output = _drain(engine)[name]
    assert output.prompt == "hello" and output.prompt_token_ids == FakeTokenizer().encode("hello")


def test_logprobs_follow_the_tokens() -> None:
    engine = _engine()
    name = engine.add([1], SamplingParams(seed=3, max_tokens=6, logprobs=2, ignore_eos=True))
    (got,) = _drain(engine)[name].outputs
    assert got.logprobs is not None and len(got.logprobs) == len(got.token_ids) == 6
    chosen = [entry[token].logprob for entry, token in zip(got.logprobs, got.token_ids, strict=True)]
    assert got.cumulative_logprob == pytest.approx(sum(chosen))
    token = got.token_ids[0]
    assert got.logprobs[0][token].decoded_token == FakeTokenizer().decode([token])


def test_no_max_tokens_runs_to_what_fits() -> None:
    for limits, total in (({"context_length": 40}, 40), ({"num_pages": 5, "page_size": 4}, 21)):
        engine = _engine(**limits)
        name = engine.add([1] * 8, SamplingParams(temperature=0, max_tokens=None, ignore_eos=True))
        (got,) = _drain(engine)[name].outputs
        assert len(got.token_ids) == total - 8 and got.finish_reason == "length"
        engine.add([1] * 8, SamplingParams(max_tokens=None, min_tokens=total - 8))
        with pytest.raises(RequestError, match=f"min_tokens is {total - 7}"):
            engine.add([1] * 8, SamplingParams(max_tokens=None, min_tokens=total - 7))


@pytest.mark.parametrize("when", ["queued", "prefill", "decode", "forked", "preempted"])
def test_cancel_frees_everything_and_reports_abort(when: str) -> None:
    engine = _engine(num_pages=12, page_size=4, max_tokens=8)
    params = SamplingParams(seed=0, max_tokens=16, ignore_eos=True, n=3 if when == "forked" else 1)
    other = engine.add([7] * 12, SamplingParams(seed=1, max_tokens=24, ignore_eos=True)) if when == "preempted" else ""
    engine.add([5] * 12, params, request_id="x")
    for _ in range({"queued": 0, "prefill": 1, "decode": 4, "forked": 3, "preempted": 0}[when]):
        engine.step()
    while when == "preempted" and not engine.stats.preemptions:
        engine.step()
    assert engine.cancel("x")
    outputs = {o.request_id: o for o in engine.step()}
    assert [c.finish_reason for c in outputs["x"].outputs] == ["abort"] * params.n
    assert outputs["x"].finished and not engine.cancel("x")
    if other:
        assert _drain(engine)[other].outputs[0].finish_reason == "length"
    assert engine.pool.used == 0 and not engine.has_work and engine.stats.aborted == params.n


def test_cancel_while_streaming_keeps_the_others_right() -> None:
    requests = _mixed(10, seed=4)
    engine = _engine(num_pages=20)
    names = [engine.add(prompt, params) for prompt, params in requests]
    last: dict[str, RequestOutput] = {}
    for step in range(1000):
        if step == 6:
            cancelled = [name for name in names[::3] if engine.cancel(name)]
        last.update((o.request_id, o) for o in engine.step())
    assert cancelled and engine.pool.used == 0
    for name, (prompt, params) in zip(names, requests, strict=True):
        if name not in cancelled:
            _agree(last[name], prompt, params)
            continue
        for got in last[name].outputs:
            want = expected(prompt, params, got.index)
            assert got.token_ids == want.ids[: len(got.token_ids)]


def test_bad_logits_end_only_their_request() -> None:
    runner = FakeRunner()
    runner.spoil = lambda context: len(context) == 9 and context[0] == 5
    engine = _engine(runner)
    good, params = [4, 4, 4], SamplingParams(seed=1, max_tokens=20, ignore_eos=True)
    bad, fine = engine.add([5, 5, 5], params), engine.add(good, params)
    last = _drain(engine)
    (ended,) = last[bad].outputs
    assert ended.finish_reason == "error" and isinstance(ended.error, NumericsError)
    assert bad in str(ended.error) and "position 8" in str(ended.error) and len(ended.token_ids) == 6
    _agree(last[fine], good, params)


@pytest.mark.parametrize("before", [0, 1])
def test_a_device_error_fails_its_step_and_the_engine_goes_on(before: int) -> None:
    runner = FakeRunner()
    engine = _engine(runner)
    failing = [engine.add([i], SamplingParams(max_tokens=20, ignore_eos=True, n=i)) for i in (1, 2)]
    for _ in range(before):
        engine.step()
    error = DeviceError("launch refused")

    def refuse(batch: Batch) -> None:
        raise error

    runner.before_run = refuse
    outputs = {o.request_id: o for o in engine.step()}
    assert all(c.error is error for name in failing for c in outputs[name].outputs)
    assert engine.pool.used == 0 and not engine.has_work and engine.stats.failed == 3
    runner.before_run = lambda batch: None
    params = SamplingParams(seed=5, max_tokens=9)
    name = engine.add([8, 9], params)
    _agree(_drain(engine)[name], [8, 9], params)


@pytest.mark.parametrize("kind", [MemoryPlanError, torch.OutOfMemoryError])
@pytest.mark.parametrize("slots", [0, 8])
def test_a_memory_error_makes_steps_smaller(kind: type[Exception], slots: int) -> None:
    runner = FakeRunner(num_slots=slots)

    def check(batch: Batch) -> None:
        if len(batch.query_start) > 3:
            raise kind("no memory for more than three sequences")

    runner.before_run = check
    engine = _engine(runner)
    requests = _mixed(8, seed=6)
    names = [engine.add(prompt, params) for prompt, params in requests]
    last = _drain(engine)
    for name, (prompt, params) in zip(names, requests, strict=True):
        _agree(last[name], prompt, params)
    assert engine.stats.preemptions > 0 and runner.largest == 3


@pytest.mark.parametrize("slots", [0, 8])
def test_a_step_lost_after_sampling_counts_no_token_twice(monkeypatch: pytest.MonkeyPatch, slots: int) -> None:
    """Nor does state that a lost step may have moved on."""
    engine = _engine(num_slots=slots)
    params = SamplingParams(temperature=0, frequency_penalty=1.5, max_tokens=20, ignore_eos=True)
    prompts = {engine.add([i, i], params): [i, i] for i in (1, 2)}
    launch, calls = engine._launcher.sampler.launch, [0]

    def lossy(*args: Any) -> Any:
        samples = launch(*args)
        calls[0] += 1
        if calls[0] % 3 == 0 and len(args[1]) > 1:
            raise MemoryPlanError("no memory for logprobs")
        return samples

    monkeypatch.setattr(engine._launcher.sampler, "launch", lossy)
    last = _drain(engine)
    assert engine.stats.preemptions > 0
    for name, prompt in prompts.items():
        _agree(last[name], prompt, params)


@pytest.mark.parametrize("slots", [0, 8])
def test_after_states_are_lost_everything_is_computed_anew(slots: int) -> None:
    runner = FakeRunner(num_slots=slots)
    engine, requests, calls = _engine(runner), _mixed(16, seed=5), 0

    def before_run(batch: Batch) -> None:
        nonlocal calls
        calls += 1
        if calls % 9 == 8:
            runner.slots[:], runner.states[:] = -7, 99
            raise StateLostError("a replay wrote everywhere")

    runner.before_run = before_run
    names = [engine.add(prompt, params) for prompt, params in requests]
    last = _drain(engine)
    for name, (prompt, params) in zip(names, requests, strict=True):
        _agree(last[name], prompt, params)
    assert engine.stats.preemptions > 0 and engine.stats.failed == 0


def test_a_memory_error_of_one_request_alone_is_its_end() -> None:
    runner = FakeRunner()

    def check(batch: Batch) -> None:
        if 13 in batch.tokens:
            raise MemoryPlanError("unlucky")

    runner.before_run = check
    engine = _engine(runner)
    params = SamplingParams(temperature=0, max_tokens=1)
    names = [engine.add([token], params) for token in (11, 12, 13, 14)]
    last = _drain(engine)
    assert [last[n].outputs[0].finish_reason for n in names].count("error") == 1
    assert isinstance(last[names[2]].outputs[0].error, MemoryPlanError)


def test_an_interruption_within_the_runner_loses_nothing() -> None:
    runner = FakeRunner()
    engine = _engine(runner)
    prompt, params = [1, 2, 3], SamplingParams(n=2, seed=2, max_tokens=8, frequency_penalty=1.0)
    name = engine.add(prompt, params)
    engine.step()
    engine.step()

    def burst(batch: Batch) -> None:
        raise KeyboardInterrupt

    runner.before_run = burst
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    runner.before_run = lambda batch: None
    _agree(_drain(engine)[name], prompt, params)


@pytest.mark.parametrize(
    ("prompt", "fields", "error", "names"),
    [
        ([], {}, RequestError, "no token"),
        ([1] * 120, {"max_tokens": 9}, RequestError, "129 tokens, over the context length of 128"),
        ([1] * 128, {"max_tokens": None}, RequestError, "over the context length of 128"),
        ([1] * 80, {"max_tokens": 18}, CacheFullError, "25 pages of 4 tokens; the pool has 24"),
        ([VOCAB], {}, RequestError, "48"),
        ([-1], {}, RequestError, "-1"),
        ([1], {"stop_token_ids": [VOCAB]}, RequestError, "stop_token_ids"),
        ([1] * 28, {"max_tokens": None, "min_tokens": 70}, RequestError, "room for 69 more, and min_tokens is 70"),
        ([1], {"logprobs": VOCAB + 1}, RequestError, "logprobs"),
    ],
)
def test_refusals_name_the_numbers_and_leave_no_trace(
    prompt: list[int], fields: dict[str, Any], error: type[Exception], names: str
) -> None:
    engine = _engine(num_pages=24)
    with pytest.raises(error, match=names):
        engine.add(prompt, SamplingParams(**fields), request_id="x")
    assert not engine.has_work and not engine.cancel("x") and engine.step() == []


def test_an_absurd_prompt_is_refused_before_it_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _engine()
    monkeypatch.setattr(FakeTokenizer, "encode", lambda *args, **kwargs: pytest.fail("encoded"))
    with pytest.raises(
        RequestError, match=r"2,000,000 characters are at least 1,000,000 tokens.*context length is 128"
    ):
        engine.add("x" * 2_000_000)
    assert not engine.has_work


def test_no_more_requests_than_may_wait() -> None:
    engine = Engine(FakeRunner(max_seqs=1), FakeTokenizer(), max_requests=3)
    params = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True)
    ready = engine.inbox.prepare([9], params)
    names = [engine.add([i], params) for i in (1, 2, 3)]
    for refused in (lambda: engine.add("text", params), lambda: engine.inbox.submit([ready])):
        with pytest.raises(QueueFullError, match=r"3 requests wait or run.*more than max_requests=3"):
            refused()
    for refused in (lambda: engine.inbox.submit([ready] * 4), lambda: engine.inbox.submit([ready] * 5)):
        with pytest.raises(QueueFullError, match=r"prompts in one call .*max_requests=3\n.*at most 3 prompts a call"):
            refused()
    while not any(output.finished for output in engine.step()):
        pass
    names += engine.inbox.submit([ready])
    last = _drain(engine)
    for name, prompt in zip(names[1:], ([2], [3], [9]), strict=True):
        _agree(last[name], prompt, params)
    with pytest.raises(UsageError, match="max_requests"):
        Engine(FakeRunner(), None, max_requests=0)


def test_ids_in_use_and_limits_over_the_runner_are_refused() -> None:
    engine = _engine()
    engine.add([1], request_id="x")
    with pytest.raises(UsageError, match="'x'"):
        engine.add([1], request_id="x")
    with pytest.raises(UsageError, match="max_seqs"):
        Engine(FakeRunner(), None, max_seqs=9)
    with pytest.raises(UsageError, match="max_batched_tokens"):
        Engine(FakeRunner(), None, max_batched_tokens=0)
    runner = FakeRunner()
    runner.vocab_size = EOS
    with pytest.raises(UsageError, match="stop ids"):
        Engine(runner, FakeTokenizer())


def test_without_a_tokenizer_ids_go_through_and_text_is_refused() -> None:
    engine = Engine(FakeRunner(), None)
    name = engine.add([1, 2], SamplingParams(seed=0, max_tokens=4))
    (got,) = _drain(engine)[name].outputs
    assert got.token_ids == expected([1, 2], SamplingParams(seed=0, max_tokens=4, ignore_eos=True)).ids
    assert got.text == ""
    with pytest.raises(UsageError, match="tokenizer"):
        engine.add("text")
    with pytest.raises(UsageError, match="tokenizer"):
        engine.add([1], SamplingParams(stop="a"))


def test_threads_add_and_cancel_while_one_steps() -> None:
    engine = _engine(num_pages=40)
    work = _mixed(60, seed=11)
    cancelled: set[str] = set()
    last: dict[str, RequestOutput] = {}

    def client(mine: int) -> None:
        rng = np.random.default_rng(mine)
        for i in range(mine, len(work), 3):
            prompt, params = work[i]
            engine.add(prompt, params, request_id=str(i))
            if rng.random() < 0.3 and engine.cancel(str(i)):
                cancelled.add(str(i))

    threads = [threading.Thread(target=client, args=(mine,)) for mine in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or engine.has_work:
        for output in engine.step():
            assert output.request_id not in last or not last[output.request_id].finished
            last[output.request_id] = output
    for thread in threads:
        thread.join()
    assert engine.pool.used == 0 and len(last) == len(work) and len(cancelled) > 3
    for i, (prompt, params) in enumerate(work):
        reasons = {c.finish_reason for c in last[str(i)].outputs}
        if str(i) in cancelled and "abort" in reasons:
            continue
        _agree(last[str(i)], prompt, params)
