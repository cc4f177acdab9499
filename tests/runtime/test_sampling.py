"""Sampler: distributions against their plain statement, rows that do not touch each other, bad rows, logprobs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from runtime import fake_lm
from torch.utils._python_dispatch import TorchDispatchMode

from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.runner import Pending
from forge.runtime.sampling import Sampler, Samples, draw, draw_filtered, greedy_ids

pytestmark = pytest.mark.cpu

CPU = torch.device("cpu")


def _request(params: SamplingParams, prompt: list[int] | None = None, output: list[int] | None = None) -> Request:
    request = Request("r", prompt or [1], params, stop_ids=frozenset(params.stop_token_ids or ()))
    request.tokens += output or []
    return request


def _logits(rows: int, vocab: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, (rows, vocab)).astype(np.float32))


def _samples(sampler: Sampler, logits: torch.Tensor, requests: list[Request]) -> Samples:
    return sampler.launch(Pending(logits, greedy_ids(logits)), requests).collect()


def _sample(logits: torch.Tensor, requests: list[Request]) -> NDArray[np.int64]:
    return _samples(Sampler(logits.shape[1], CPU), logits, requests).ids


FILTERS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.6},
    {"temperature": 1.7, "min_p": 0.1},
    {"top_k": 5},
    {"top_p": 0.8},
    {"top_k": 1},
    {"top_p": 1e-6},
    {"min_p": 1.0},
    {"temperature": 1.3, "top_k": 9, "top_p": 0.7, "min_p": 0.02},
    {"top_k": 10**6, "top_p": 0.999},
]


@pytest.mark.parametrize("fields", FILTERS, ids=str)
def test_distribution_is_the_stated_one(fields: dict[str, Any]) -> None:
    """Chi-square at 1e-4 over 20,000 draws, and no draw of an excluded token."""
    draws, vocab = 20_000, 24
    params = SamplingParams(**fields)
    row = _logits(1, vocab, seed=5, scale=1.5)
    uniform = torch.from_numpy(np.random.default_rng(9).random(draws))

    def column(value: float) -> torch.Tensor:
        return torch.full((draws,), float(value), dtype=torch.float64)

    logits, kept = row.expand(draws, -1), (column(params.temperature), column(params.min_p))
    if params.top_k > 0 or params.top_p < 1:
        ids = draw_filtered(logits, uniform, *kept, column(params.top_k), column(params.top_p))
    else:
        ids = draw(logits, uniform, *kept)
    count = np.bincount(ids.numpy(), minlength=vocab)
    allowed, p = fake_lm.filtered(row[0].double().numpy(), params)
    assert set(np.flatnonzero(count)) <= set(allowed.tolist())
    chi = float(((count[allowed] - draws * p) ** 2 / (draws * p)).sum())
    freedom = len(allowed) - 1
    # Wilson and Hilferty: the cube root of chi-square / freedom is nearly normal.
    spread = 2 / (9 * max(freedom, 1))
    assert freedom == 0 or (chi / freedom) ** (1 / 3) < 1 - spread + 3.72 * spread**0.5, (chi, freedom)


@pytest.mark.parametrize("vocab", [1, 2, 31, 4097])
def test_ids_equal_the_plain_statement(vocab: int) -> None:
    rng = np.random.default_rng(vocab)
    logits = _logits(64, vocab, seed=vocab)
    params = [
        SamplingParams(
            temperature=float(rng.choice([0, 0.3, 1, 2])),
            top_k=int(rng.choice([0, -1, 1, 7])),
            top_p=float(rng.choice([1, 0.9, 0.3])),
            min_p=float(rng.choice([0, 0.05])),
            seed=int(rng.integers(2**32)),
        )
        for _ in range(64)
    ]
    requests = [_request(p) for p in params]
    want = [
        fake_lm.sample(row.double().numpy(), r.uniforms.at(0), r.params)
        for row, r in zip(logits, requests, strict=True)
    ]
    assert _sample(logits, requests).tolist() == want


def test_equal_logits_stand_in_the_order_of_their_ids() -> None:
    logits = torch.zeros(200, 50)
    requests = [_request(SamplingParams(top_k=3, seed=i)) for i in range(200)]
    assert set(_sample(logits, requests).tolist()) == {0, 1, 2}


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    vocab = 300
    logits = _logits(8, vocab, seed=2)
    rows = [
        SamplingParams(seed=1),
        SamplingParams(temperature=0),
        SamplingParams(seed=2, top_p=0.9),
        SamplingParams(seed=3, top_k=4, logprobs=2),
        SamplingParams(seed=4, repetition_penalty=1.5),
        SamplingParams(temperature=0, presence_penalty=1, frequency_penalty=0.5),
        SamplingParams(seed=5, min_p=0.2),
        SamplingParams(temperature=0, min_tokens=3, stop_token_ids=[int(logits[7].argmax())]),
    ]

    def request(i: int) -> Request:
        return _request(rows[i], prompt=[5, 6], output=[7, 7])

    together = _sample(logits, [request(i) for i in range(8)])
    alone = [int(_sample(logits[i : i + 1], [request(i)])[0]) for i in range(8)]
    backwards = _sample(logits.flip(0), [request(i) for i in reversed(range(8))])[::-1]
    assert together.tolist() == alone == backwards.tolist()
    assert together[7] != int(logits[7].argmax())


@pytest.mark.parametrize(
    "fields", [{"repetition_penalty": 1.8}, {"presence_penalty": 1.1}, {"frequency_penalty": -0.7}], ids=str
)
def test_penalties_follow_the_output_as_it_grows(fields: dict[str, Any]) -> None:
    """Counts kept over twelve steps equal those of a sampler that starts anew, and the plain statement."""
    vocab, prompt = 20, [3, 3, 4]
    params = SamplingParams(temperature=0, **fields)
    steady, request = Sampler(vocab, CPU), _request(params, prompt)
    for step in range(12):
        logits = _logits(1, vocab, seed=step % 3, scale=1.0)
        plain = fake_lm.penalized(logits[0].double().numpy(), prompt, request.output_ids, params)
        fresh = _sample(logits, [_request(params, prompt, request.output_ids)])
        got = _samples(steady, logits, [request]).ids
        assert got.tolist() == fresh.tolist() == [int(plain.argmax())]
        request.tokens.append(int(got[0]))


def test_count_rows_are_kept_for_penalized_requests_alone_and_reused() -> None:
    sampler = Sampler(20, CPU)
    for _ in range(3):
        group = [_request(SamplingParams(seed=0, presence_penalty=float(i % 2))) for i in range(20)]
        _samples(sampler, _logits(20, 20), group)
        assert len(sampler._counts) == 10
        for request in group:
            sampler.forget(request)
        assert len(sampler._counts) == 0
    assert len(sampler._counts._prompt) == 16


@pytest.mark.parametrize("fields", [{}, {"top_p": 0.9}, {"presence_penalty": 1.0}, {"logprobs": 1}], ids=str)
@pytest.mark.parametrize("temperature", [0, 1])
def test_bad_rows_are_minus_one_and_others_unchanged(temperature: float, fields: dict[str, Any]) -> None:
    logits = _logits(5, 40)
    clean = logits.clone()
    logits[0, 7] = torch.nan
    logits[1] = -torch.inf
    logits[2, 39] = torch.inf
    logits[4, 1:] = -torch.inf

    def requests() -> list[Request]:
        return [_request(SamplingParams(temperature=temperature, seed=i, **fields)) for i in range(5)]

    got, good = _sample(logits, requests()), _sample(clean, requests())
    assert got.tolist() == [-1, -1, -1, good[3], 0]


@pytest.mark.parametrize(
    ("row", "uniform", "want"), [([0, 0], 0.5, 1), ([0, -torch.inf, 0], 0.5, 2), ([-torch.inf, 0], 0.0, 1)]
)
def test_a_border_of_the_distribution_never_gives_an_excluded_token(
    row: list[float], uniform: float, want: int
) -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert draw(torch.tensor([row]), uniform * one, one, 0 * one).tolist() == [want]


def test_greedy_ids_takes_the_first_of_equals() -> None:
    logits = torch.tensor([[1.0, 5, 5], [-torch.inf, -3, -3]])
    assert greedy_ids(logits).tolist() == [1, 1]


def test_min_tokens_excludes_stop_ids_until_then() -> None:
    logits = torch.tensor([[0.0, 9, 1, 8]])
    params = SamplingParams(temperature=0, min_tokens=2, stop_token_ids=[1, 3])
    got = [int(_sample(logits, [_request(params, output=[2] * n)])[0]) for n in range(4)]
    assert got == [2, 2, 1, 1]
    assert logits.tolist() == [[0, 9, 1, 8]], "the runner's logits are not ours to change"


def test_logprobs_are_those_of_the_raw_logits() -> None:
    logits = _logits(3, 30, seed=4)
    requests = [
        _request(SamplingParams(seed=1, temperature=3, logprobs=3)),
        _request(SamplingParams(seed=1)),
        _request(SamplingParams(temperature=0, presence_penalty=2, logprobs=0), output=[int(logits[2].argmax())]),
    ]
    samples = _samples(Sampler(30, CPU), logits, requests)
    log = torch.log_softmax(logits.double(), -1)
    assert sorted(samples.logprobs) == [0, 2]
    for row, entries in samples.logprobs.items():
        order = log[row].argsort(descending=True).tolist()
        top = order[: requests[row].params.logprobs]
        assert set(entries) == {int(samples.ids[row]), *top}
        for token, entry in entries.items():
            assert entry.rank == order.index(token) + 1
            assert entry.logprob == pytest.approx(float(log[row, token]), rel=1e-5)


def test_rows_taken_as_they_are_get_the_ids_of_the_step() -> None:
    """The step's own ids serve plain greedy rows and no others; whatever else is asked is computed here."""
    logits = _logits(6, 30)
    own = torch.tensor([20, 21, 22, 23, 24, 25], dtype=torch.int32)
    plain, likeliest = SamplingParams(temperature=0), logits.argmax(-1).tolist()
    sampler = Sampler(30, CPU)
    assert sampler.launch(Pending(logits, own), [_request(plain)] * 6).collect().ids.tolist() == own.tolist()
    penalized = SamplingParams(temperature=0, presence_penalty=2)
    held = SamplingParams(temperature=0, min_tokens=5, stop_token_ids=[likeliest[3]])
    drawn = SamplingParams(seed=3)
    params = [plain, penalized, SamplingParams(temperature=0, logprobs=1), held, drawn, plain]
    requests = [_request(p, output=[likeliest[1]] if p is penalized else []) for p in params]
    got = sampler.launch(Pending(logits, own), requests).collect()
    banned = logits.double().clone()
    banned[1, likeliest[1]] -= 2
    banned[3, likeliest[3]] = -np.inf
    want = banned.argmax(-1).tolist()
    want[4] = fake_lm.sample(logits[4].double().numpy(), requests[4].uniforms.at(0), drawn)
    assert got.ids.tolist() == [20, want[1], 22, want[3], want[4], 25]
    assert list(got.logprobs[2]) == [22, likeliest[2]]
    assert sampler.launch(Pending(logits[:0], own[:0]), []).collect().ids.shape == (0,)


class _Waits(TorchDispatchMode):
    """Records operators that would make the host wait for the device."""

    SLOW = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in self.SLOW):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_no_operator_waits_for_the_device() -> None:
    params = [SamplingParams(seed=0, **fields) for fields in FILTERS]
    params += [SamplingParams(temperature=0, presence_penalty=1.0, min_tokens=4, stop_token_ids=[3])]
    requests = [_request(p, output=[2]) for p in params]
    logits = _logits(len(params), 30)
    with _Waits() as waits:
        _samples(Sampler(30, CPU), logits, requests)
    assert waits.seen == []
