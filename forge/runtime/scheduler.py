"""schedule() -> slices: at most `max_tokens` tokens over at most `max_seqs` requests a step, the oldest first.

The scheduler knows no prefill and no decode: a request has computed and wanted tokens, and gets a slice of the
difference. Why every request ends: the oldest running one gets at least one token every step, since all others can be
preempted for it and `add` refuses what does not fit the pool alone; preempted ones return in their old order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from forge.errors import CacheFullError, RequestError, UsageError
from forge.runtime.pages import PagePool
from forge.runtime.request import FinishReason, Request
from forge.runtime.slots import SlotPool


class Slice(NamedTuple):
    """Tokens start .. start+length of a request, to be computed in this step."""

    request: Request
    start: int
    length: int

    @property
    def samples(self) -> bool:
        """Whether the step computes the request's last token, so that its logits give the next one."""
        return self.end >= self.request.wanted

    @property
    def end(self) -> int:
        return self.start + self.length


class Scheduler:
    """Owns the queues and, through the pools, the pages and slots of all requests that are not finished.

    Invariant: running requests are in the order of their admission and hold pages for all computed tokens, and a slot
    if there are `slots`; waiting ones hold none. State in slots moves on with every step, so after a step that was not
    committed nobody knows what it has seen: all its requests are computed anew. Between `schedule` and `commit`
    requests may be finished, but not forked. While a step is under way `ahead` may give the one after it; they are
    committed in their order. Not thread-safe.
    """

    def __init__(
        self,
        pool: PagePool,
        *,
        max_tokens: int,
        max_seqs: int,
        context_length: int,
        slots: SlotPool | None = None,
    ) -> None:
        if max_tokens < 1 or max_seqs < 1 or context_length < 1:
            raise UsageError(
                f"a step of {max_tokens} tokens, {max_seqs} sequences and context {context_length} is not possible",
                remedy="give each of them as 1 or more",
            )
        if slots is not None and slots.total < max_seqs:
            raise UsageError(f"{slots.total} slots for {max_seqs} sequences", remedy="a slot for each sequence")
        self.pool, self.slots = pool, slots
        self.max_tokens = max_tokens
        # With no more requests than tokens, each running request gets a token in each step.
        self.max_seqs = min(max_seqs, max_tokens)
        self.context_length = context_length
        self.running: list[Request] = []
        self.waiting: deque[Request] = deque()
        self.preemptions = 0
        self._seats = self.max_seqs
        self._open = 0  # steps that were handed out and not committed

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def longest_output(self, prompt_len: int) -> int:
        """Output tokens that the context and the pool can hold after `prompt_len` tokens; 0 or less for none.

        The last output token is never computed, hence needs no place in the pool.
        """
        return min(self.context_length, self.pool.total * self.pool.page_size + 1) - prompt_len

    def check(self, request: Request) -> None:
        """Refuse what could never finish: RequestError or CacheFullError, with the numbers."""
        prompt, output = request.prompt_len, request.max_tokens
        name = f"request {request.id!r}"
        if prompt < 1:
            raise RequestError("the prompt holds no token", where=name, remedy="give at least one token")
        if prompt + output > self.context_length:
            raise RequestError(
                f"{prompt} prompt tokens and max_tokens {output} are {prompt + output} tokens, over the context length "
                f"of {self.context_length}",
                where=name,
                remedy="shorten the prompt, lower max_tokens or open the model with a longer context",
            )
        need = self.pool.pages_for(prompt + output - 1)
        if need > self.pool.total:
            raise CacheFullError(
                f"{prompt} prompt tokens and max_tokens {output} need {need} pages of {self.pool.page_size} tokens; "
                f"the pool has {self.pool.total} in all",
                where=name,
                remedy="shorten the prompt, lower max_tokens or give the pool more pages",
            )

    def add(self, request: Request) -> None:
        """Queue a new request behind all others; raises as `check` does."""
        self.check(request)
        self.waiting.append(request)

    def seat(self, request: Request, pages: Sequence[int], computed: int) -> None:
        """Start a waiting request whose first `computed` tokens have their keys and values in `pages`.

        It becomes a holder of these pages, and writes behind its computed tokens in the last one: whoever else holds
        that page must not need what lies there. There must be a seat, and no step under way.
        """
        assert self.slots is None, "state in slots is not in pages"
        assert computed < request.wanted and len(pages) == self.pool.pages_for(computed), f"{request}, {pages} pages"
        assert len(self.running) < self._seats and not self._open, "there is no seat"
        self.waiting.remove(request)
        self.pool.share(pages)
        request.pages, request.computed, request.state = list(pages), computed, "running"
        self.running.append(request)

    def fork(self, parent: Request, child: Request) -> None:
        """Start `child` on the pages of `parent`, whose computed tokens it begins with.

        Where no seat or page is free, or the parent's state has seen tokens that are not the child's, the child waits,
        next in line, and computes its tokens itself.
        """
        self.check(child)
        shared = min(parent.computed, child.wanted - 1)
        assert parent.tokens[:shared] == child.tokens[:shared], "a fork continues its parent's tokens"
        fits = len(self.running) < self._seats and self.pool.fork_needs(shared) <= self.pool.free
        if shared and fits and (self.slots is None or shared == parent.computed):
            child.pages = self.pool.fork(parent.pages, shared)
            child.slot = self.slots.fork(parent.slot) if self.slots is not None else -1
            child.computed = shared
            child.state = "running"
            self.running.append(child)
        else:
            self.waiting.appendleft(child)

    def schedule(self) -> list[Slice]:
        """Hand out one step; pages for its tokens are then in the requests' tables. Empty when there is no work."""
        while self._open and self.slots is not None and self.running:
            self._preempt()
        self._open = 0
        slices: list[Slice] = []
        budget = self.max_tokens
        # A preemption shortens `running` behind the request at hand, never before it.
        while len(slices) < len(self.running):
            request = self.running[len(slices)]
            later = len(self.running) - len(slices) - 1
            count = min(request.wanted - request.computed, budget - later)
            assert count >= 1, f"{request} runs and wants nothing"
            if self._reserve(request, request.computed + count):
                slices.append(Slice(request, request.computed, count))
                budget -= count
        if self.waiting and budget:
            self._admit(slices, budget)
        self._open = 1 if slices else 0
        return slices

    def ahead(self, slices: list[Slice]) -> list[Slice]:
        """The step after `slices`, the one under way: a token more of each request that goes on, whatever it will be.

        Empty where that is not the next step: a prompt is not done, a request could be seated, or pages are wanting.
        """
        going = [s for s in slices if s.request.state == "running" and s.request.next_output < s.request.max_tokens]
        missing = [self.pool.pages_for(s.end + 1) - len(s.request.pages) for s in going]
        pending = self.pool.copies or (self.slots is not None and (self.slots.copies or self.slots.cleared))
        if not all(s.samples for s in slices) or pending or self._seatable or sum(missing) > self.pool.free:
            return []
        for (request, _, _), count in zip(going, missing, strict=True):
            if count > 0:
                request.pages.extend(self.pool.allocate(count))
        self._open += bool(going)
        return [Slice(s.request, s.end, 1) for s in going]

    def commit(self, slices: list[Slice]) -> None:
        """The step was computed: its tokens count, its copies are done. Skips requests that ended meanwhile."""
        self.pool.settle()
        if self.slots is not None:
            self.slots.settle()
        self._open -= 1
        for request, start, length in slices:
            if request.state == "running":
                request.computed = start + length

    def finish(self, request: Request, reason: FinishReason) -> None:
        """End a request in any state, at any time between steps; its pages are free at once."""
        if request.state == "running":
            self.running.remove(request)
            self._drop_state(request)
        elif request.state == "waiting" and request in self.waiting:
            self.waiting.remove(request)
        request.state = "finished"
        request.finish_reason = reason
        self._seats = self.max_seqs

    def shrink(self) -> None:
        """After a step ran out of memory: preempt the newer half, and seat no more until some request has ended."""
        self._seats = max(1, len(self.running) // 2)
        while len(self.running) > self._seats:
            self._preempt()

    def recompute(self) -> None:
        """After states were lost: preempt all, so that everything is computed anew."""
        while self.running:
            self._preempt()

    def reset(self) -> None:
        """After a defect: every request has ended, and every page and slot is free, whatever was half done."""
        self.running.clear()
        self.waiting.clear()
        self.pool.reset()
        if self.slots is not None:
            self.slots.reset()
        self._seats, self._open = self.max_seqs, 0

    @property
    def _seatable(self) -> bool:
        """Whether the first of the waiting requests can run."""
        seated = len(self.running) >= self._seats
        return bool(self.waiting) and not seated and self.pool.pages_for(self.waiting[0].wanted) <= self.pool.free

    def _reserve(self, request: Request, tokens: int) -> bool:
        """Pages for `tokens` tokens, from the newest requests if need be. False if `request` itself had to give way."""
        missing = self.pool.pages_for(tokens) - len(request.pages)
        while missing > self.pool.free:
            if self._preempt() is request:
                return False
        if missing > 0:
            request.pages.extend(self.pool.allocate(missing))
        return True

    def _admit(self, slices: list[Slice], budget: int) -> None:
        """Seat waiting requests in order while there are pages for all that the next one wants, not just for this step.

        Budget left here means that running requests have the pages for all they want.
        """
        while budget and self._seatable:
            request = self.waiting[0]
            count = min(request.wanted, budget)
            budget -= count
            request.pages = self.pool.allocate(self.pool.pages_for(count))
            request.slot = self.slots.allocate() if self.slots is not None else -1
            request.state = "running"
            self.running.append(self.waiting.popleft())
            slices.append(Slice(request, 0, count))

    def _preempt(self) -> Request:
        """Send the newest running request back to the head of the queue; it keeps its tokens and recomputes them."""
        request = self.running.pop()
        self._drop_state(request)
        request.state = "waiting"
        self.waiting.appendleft(request)
        self.preemptions += 1
        return request

    def _drop_state(self, request: Request) -> None:
        self.pool.release(request.pages)
        if self.slots is not None:
            self.slots.release(request.slot)
            request.slot = -1
        request.pages = []
        request.computed = 0
