"""20,000 random adds, steps, cancels, forks and preemptions: pages and slots are conserved and every request ends.

The model of what pages must hold is a dictionary from slots to (sequence prefix): a step writes it, copies copy it, and
each context is read back through its page table before a token is appended. Every other world has state of which a
sequence has one: its model is the tokens that it has seen.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from forge.errors import CacheFullError, RequestError
from forge.runtime.pages import PagePool
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.scheduler import Scheduler, Slice
from forge.runtime.slots import SlotPool

pytestmark = pytest.mark.null

ACTIONS = 2500  # for each of the eight seeds


class _World:
    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.pool = PagePool(int(rng.integers(4, 24)), int(rng.integers(1, 6)))
        max_tokens, max_seqs = int(rng.integers(1, 24)), int(rng.integers(1, 9))
        self.slots = SlotPool(max_seqs) if seed % 2 else None
        self.scheduler = Scheduler(
            self.pool,
            max_tokens=max_tokens,
            max_seqs=max_seqs,
            context_length=int(rng.integers(8, 64)),
            slots=self.slots,
        )
        self.seen = [[-1] for _ in range(max_seqs)]  # by slot: the tokens that its state has seen
        self.live: list[Request] = []
        self.memory = np.full((self.pool.total, self.pool.page_size), -1)
        self.done: Counter[str] = Counter()
        self.made = 0

    def act(self) -> None:
        roll = self.rng.random()
        if roll < 0.2:
            self.add(self.rng.integers(0, 1000, self.rng.integers(0, 16)).tolist(), None)
        elif roll < 0.3 and self.live:
            pool = self.scheduler.running or self.live
            parent = pool[self.rng.integers(len(pool))]
            cut = int(self.rng.integers(0, parent.wanted + 1))
            if self.slots is not None and self.rng.random() < 0.7:
                cut = parent.wanted  # only who continues all that was computed can have a copy of the state
            self.add([*parent.tokens[:cut], *self.rng.integers(0, 1000, self.rng.integers(0, 3)).tolist()], parent)
        elif roll < 0.34 and self.live:
            self.end(self.live[self.rng.integers(len(self.live))], "abort")
        elif roll < 0.35:
            self.scheduler.shrink()
        else:
            self.step(lost=roll < 0.38)
        self.check()

    def add(self, prompt: list[int], parent: Request | None) -> None:
        self.made += 1
        request = Request(str(self.made), prompt, SamplingParams(max_tokens=int(self.rng.integers(1, 24)), seed=0))
        try:
            if parent is None:
                self.scheduler.add(request)
            elif parent.tokens[: parent.computed][: len(prompt) - 1] == prompt[: parent.computed][: len(prompt) - 1]:
                self.scheduler.fork(parent, request)
                self.done["forked"] += request.computed > 0
                self.done["forked with state"] += request.slot >= 0
            else:
                return
        except RequestError as error:
            self.done["refused"] += 1
            size = request.prompt_len + request.max_tokens
            if isinstance(error, CacheFullError):
                assert size - 1 > self.pool.total * self.pool.page_size
            else:
                assert size > self.scheduler.context_length or not prompt
            return
        self.live.append(request)

    def step(self, lost: bool) -> None:
        slices = self.scheduler.schedule()
        assert bool(slices) == self.scheduler.has_work, "work, and nobody got any"
        assert sum(s.length for s in slices) <= self.scheduler.max_tokens
        assert len(slices) <= self.scheduler.max_seqs and all(s.length >= 1 for s in slices)
        assert [s.request for s in slices] == self.scheduler.running
        size = self.pool.page_size
        for source, destination in self.pool.copies:
            self.memory[destination] = self.memory[source]
        for request, start, length in slices:
            for i in range(start, start + length):
                assert self.pool.references(request.pages[i // size]) - self.holds(request.pages[i // size]) == 1
                self.memory[request.pages[i // size], i % size] = request.tokens[i]
        for request, start, length in slices:
            got = self.memory[request.pages].reshape(-1)[: start + length]
            assert got.tolist() == request.tokens[: start + length], "a context was overwritten"
        if self.slots is not None:
            self.move_on(slices, int(self.rng.integers(0, len(slices) + 1)) if lost else len(slices))
        if lost:
            return
        sampling = [s.request for s in slices if s.samples]
        self.scheduler.commit(slices)
        for request in sampling:
            request.tokens.append(int(self.rng.integers(0, 1000)))
            if request.num_output == request.max_tokens:
                self.end(request, "length")

    def move_on(self, slices: list[Slice], count: int) -> None:
        """The states of the first `count` slices see their tokens; a step that is lost may have come so far."""
        assert self.slots is not None
        before = [list(tokens) for tokens in self.seen]
        for source, to in self.slots.copies:
            self.seen[to] = list(before[source])
        for slot in self.slots.cleared:
            self.seen[slot] = []
        for request, start, length in slices[:count]:
            assert self.seen[request.slot] == request.tokens[:start], "a state has seen other tokens"
            self.seen[request.slot] += request.tokens[start : start + length]

    def holds(self, page: int) -> int:
        return sum(source == page for source, _ in self.pool.copies)

    def end(self, request: Request, reason: str) -> None:
        self.scheduler.finish(request, reason)  # type: ignore[arg-type]
        self.live.remove(request)
        self.done[reason] += 1

    def check(self) -> None:
        pool = self.pool
        assert pool.free + pool.used == pool.total
        held = Counter(page for request in self.live for page in request.pages)
        held.update(source for source, _ in pool.copies)
        assert [pool.references(page) for page in range(pool.total)] == [held[page] for page in range(pool.total)]
        assert pool.used == len(held)
        if self.slots is not None:
            taken = [request.slot for request in self.scheduler.running]
            assert len(set(taken)) == len(taken) == self.slots.used and min(taken, default=0) >= 0
            assert all(request.slot == -1 for request in self.scheduler.waiting)
        queued = [*self.scheduler.running, *self.scheduler.waiting]
        assert len(queued) == len(set(queued)) and set(queued) == set(self.live)
        for request in self.live:
            assert len(set(request.pages)) == len(request.pages)
            assert request.computed <= request.wanted and pool.pages_for(request.computed) <= len(request.pages)


@pytest.mark.parametrize("seed", range(8))
def test_random_lives(seed: int) -> None:
    world = _World(seed)
    for _ in range(ACTIONS):
        world.act()
    bound = sum(r.max_tokens + r.wanted for r in world.live) * (len(world.live) + 1) + 1
    for _ in range(bound):
        if not world.live:
            break
        world.step(lost=False)
        world.check()
    assert not world.live, "a request never ends"
    assert world.pool.free == world.pool.total
    assert world.slots is None or world.slots.used == 0
    assert world.done["length"] > 30


def test_the_worlds_are_rich_enough() -> None:
    """The random lives often meet forks that share pages, preemptions, cancels and refusals."""
    total: Counter[str] = Counter()
    for seed in range(8):
        world = _World(seed)
        for _ in range(500):
            world.act()
        total.update(world.done, preempted=world.scheduler.preemptions)
    assert total["forked with state"] > 20, total
    assert total["forked"] > 50 and total["preempted"] > 100, total
    assert total["abort"] > 50 and total["refused"] > 50 and total["length"] > 200, total
