"""Scheduler: budgets, order, preemption and refusals."""

from __future__ import annotations

import pytest

from forge.errors import CacheFullError, RequestError, UsageError
from forge.runtime.pages import PagePool
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.scheduler import Scheduler, Slice

pytestmark = pytest.mark.null


def _scheduler(pages: int = 64, *, tokens: int = 16, seqs: int = 4, context: int = 64) -> Scheduler:
    return Scheduler(PagePool(pages, 4), max_tokens=tokens, max_seqs=seqs, context_length=context)


def _request(name: str, prompt: int, output: int = 8) -> Request:
    return Request(name, range(prompt), SamplingParams(max_tokens=output, seed=0))


def _step(scheduler: Scheduler) -> list[tuple[str, int, int]]:
    """One step; every request at its end gets a token. Returns (id, start, length) of the slices."""
    slices = scheduler.schedule()
    ended = [s.request for s in slices if s.samples]
    scheduler.commit(slices)
    for request in ended:
        request.tokens.append(1)
        if request.num_output == request.max_tokens:
            scheduler.finish(request, "length")
    return [(s.request.id, s.start, s.length) for s in slices]


def test_prompts_are_chunked_and_running_ones_come_first() -> None:
    scheduler = _scheduler()
    for name, prompt in (("a", 3), ("b", 30), ("c", 5)):
        scheduler.add(_request(name, prompt))
    assert _step(scheduler) == [("a", 0, 3), ("b", 0, 13)]
    assert _step(scheduler) == [("a", 3, 1), ("b", 13, 15)]
    assert _step(scheduler) == [("a", 4, 1), ("b", 28, 2), ("c", 0, 5)]
    assert _step(scheduler) == [("a", 5, 1), ("b", 30, 1), ("c", 5, 1)]


def test_a_long_prompt_before_others_leaves_each_its_token() -> None:
    scheduler = _scheduler()
    for name in ("a", "b", "c"):
        scheduler.add(_request(name, 4))
    _step(scheduler)
    # As if the oldest had been preempted late: it has all to recompute and stands first.
    scheduler.running[0].computed = 0
    scheduler.running[0].tokens += range(40)
    assert _step(scheduler) == [("a", 0, 14), ("b", 4, 1), ("c", 4, 1)]


def test_seats_are_limited_by_sequences_and_by_tokens() -> None:
    for tokens, seqs, seats in ((16, 4, 4), (3, 8, 3)):
        scheduler = _scheduler(tokens=tokens, seqs=seqs)
        for i in range(8):
            scheduler.add(_request(str(i), 1))
        for _ in range(4):
            _step(scheduler)
        assert [r.id for r in scheduler.running] == [str(i) for i in range(seats)]


def test_the_newest_gives_way_and_returns_first_with_its_tokens() -> None:
    scheduler = _scheduler(4)
    for name in ("a", "b"):
        scheduler.add(_request(name, 6, 11))
    scheduler.add(_request("c", 1, 1))
    for _ in range(3):
        _step(scheduler)
    assert scheduler.pool.free == 0
    newest = scheduler.running[1]
    assert _step(scheduler) == [("a", 8, 1)]
    assert (newest.state, newest.computed, newest.pages, newest.num_output) == ("waiting", 0, [], 3)
    assert scheduler.waiting[0] is newest and scheduler.preemptions == 1
    while newest.state == "waiting" and scheduler.running:
        _step(scheduler)
    order = []
    while scheduler.has_work:
        order += [name for name, _, _ in _step(scheduler)]
    assert order[0] == "b" and newest.num_output == 11
    assert scheduler.pool.free == 4


def test_a_request_is_seated_only_when_all_it_wants_has_pages() -> None:
    scheduler = _scheduler(6, tokens=14)
    scheduler.add(_request("a", 10, 2))
    scheduler.add(_request("b", 13, 1))
    scheduler.add(_request("c", 1, 1))
    assert _step(scheduler) == [("a", 0, 10)], "three pages hold b's first chunk of four, not its thirteen tokens"
    assert _step(scheduler) == [("a", 10, 1)]
    assert _step(scheduler) == [("b", 0, 13), ("c", 0, 1)]


def test_cancel_frees_pages_at_once_in_any_state() -> None:
    scheduler = _scheduler(seqs=1)
    running, waiting = _request("a", 9), _request("b", 9)
    scheduler.add(running)
    scheduler.add(waiting)
    scheduler.commit(scheduler.schedule())
    assert scheduler.pool.used == 3
    scheduler.finish(running, "abort")
    assert scheduler.pool.used == 0 and running.finish_reason == "abort"
    scheduler.finish(waiting, "abort")
    assert not scheduler.has_work


@pytest.mark.parametrize(
    ("prompt", "output", "error", "numbers"),
    [
        (0, 4, RequestError, ()),
        (60, 5, RequestError, ("60", "5", "65", "64")),
        (30, 12, CacheFullError, ("30", "12", "11", "10")),
    ],
)
def test_what_cannot_fit_is_refused_with_the_numbers(
    prompt: int, output: int, error: type[RequestError], numbers: tuple[str, ...]
) -> None:
    scheduler = _scheduler(10)
    with pytest.raises(error) as caught:
        scheduler.add(_request("big", prompt, output))
    assert type(caught.value) is error
    assert all(number in caught.value.what for number in numbers)
    assert "big" in caught.value.where and not scheduler.has_work


def test_the_largest_that_fits_finishes() -> None:
    scheduler = _scheduler(10)
    assert scheduler.longest_output(30) == 11
    request = _request("a", 30, 11)
    scheduler.add(request)
    while scheduler.has_work:
        _step(scheduler)
    assert request.num_output == 11 and scheduler.preemptions == 0


def test_fork_shares_the_prompt_and_waits_without_a_seat() -> None:
    scheduler = _scheduler(seqs=2)
    parent, child, late = _request("p", 10), _request("c", 10), _request("l", 10)
    scheduler.add(parent)
    scheduler.commit(scheduler.schedule())
    scheduler.fork(parent, child)
    scheduler.fork(parent, late)
    assert child.pages[:2] == parent.pages[:2] and child.pages[2] != parent.pages[2] and child.computed == 9
    assert late.state == "waiting" and not late.pages
    parent.tokens.append(1)
    assert scheduler.schedule() == [Slice(parent, 10, 1), Slice(child, 9, 1)]


def test_shrink_halves_and_seats_again_once_one_has_ended() -> None:
    scheduler = _scheduler()
    requests = [_request(str(i), 2) for i in range(4)]
    for request in requests:
        scheduler.add(request)
    _step(scheduler)
    scheduler.shrink()
    assert [r.id for r in scheduler.running] == ["0", "1"] and [r.id for r in scheduler.waiting] == ["2", "3"]
    assert [name for name, _, _ in _step(scheduler)] == ["0", "1"]
    scheduler.finish(requests[0], "length")
    assert [name for name, _, _ in _step(scheduler)] == ["1", "2", "3"]


@pytest.mark.parametrize("bad", [{"tokens": 0}, {"seqs": 0}, {"context": 0}])
def test_impossible_limits_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        _scheduler(**bad)


def test_a_request_is_seated_on_pages_that_hold_its_first_tokens() -> None:
    scheduler = _scheduler()
    pages = scheduler.pool.allocate(2)
    first, second = _request("a", 7), _request("b", 9)
    for request in (first, second):
        scheduler.add(request)
    scheduler.seat(second, pages, 6)
    assert second.pages == pages and scheduler.pool.references(pages[1]) == 2
    assert _step(scheduler) == [("b", 6, 3), ("a", 0, 7)]
    assert second.pages[:2] == pages and len(second.pages) == 3 and first.pages != pages
    scheduler.finish(second, "abort")
    assert [scheduler.pool.references(page) for page in pages] == [1, 1], "who held them still does"
