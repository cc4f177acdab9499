"""Engine.step(): schedule -> launch -> collect -> commit. Many requests in, what is new of each out.

Where the runner computes beside the host, the next step is launched before this one's ids are collected, as long as it
can be no other: the host's work is then hidden behind the device's. What a request turns out not to want of a step that
was launched ahead is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from forge.arguments import integer, shown
from forge.errors import ForgeError, MemoryPlanError, NumericsError, StateLostError, UsageError
from forge.runtime.admission import Admission
from forge.runtime.completion import Completion, Tokenizer
from forge.runtime.flight import Flight, Launcher, Loss, told
from forge.runtime.group import Group
from forge.runtime.inbox import Inbox
from forge.runtime.output import RequestOutput
from forge.runtime.pages import PagePool
from forge.runtime.params import SamplingParams
from forge.runtime.request import FinishReason, Request
from forge.runtime.runner import Runner
from forge.runtime.sampling import Samples
from forge.runtime.scheduler import Scheduler, Slice
from forge.runtime.slots import SlotPool


@dataclass(slots=True)
class EngineStats:
    """Counters since the engine was made. A prompt's tokens count once, when its first token is sampled; the last three
    count samples, of which a request has n."""

    steps: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    finished: int = 0
    aborted: int = 0
    failed: int = 0


class Engine:
    """Runs requests on a `Runner`, several at a time.

    Threads: one thread at a time calls `step`, and it alone reads `stats`, `pool`, `slots` and `scheduler` exactly.
    `add`, `cancel`, `has_work` and the `inbox` may be used from any thread at any time; requests and cancellations take
    effect at the start of the next step.
    Faults: `step` raises no Exception, and whatever is raised within it, the engine stays usable and keeps every page
    and slot accounted for. What goes wrong with one request's text ends that request; what its launch or its
    collection raises ends the requests of the step. A memory error while there are several to a step only makes the
    steps smaller, and where states were lost all running requests are computed anew. A defect anywhere else ends all
    that had been taken up. An error that is not a ForgeError becomes a DefectError. What is no Exception, such as
    KeyboardInterrupt, is raised when the engine is in order again.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer | None,
        *,
        max_batched_tokens: int | None = None,
        max_seqs: int | None = None,
        max_requests: int | None = None,
    ) -> None:
        tokens = _within("max_batched_tokens", max_batched_tokens, runner.max_tokens)
        seqs = _within("max_seqs", max_seqs, runner.max_seqs)
        self._runner, self._tokens, self._seqs = runner, tokens, seqs
        self.stats = EngineStats()
        self._begin()
        self.inbox = Inbox(Admission(runner.vocab_size, tokenizer, self.scheduler), max_requests)

    def _begin(self) -> None:
        """No request, and every page and slot free."""
        runner, tokens, seqs = self._runner, self._tokens, self._seqs
        self.pool = PagePool(runner.num_pages, runner.page_size)
        self.slots = SlotPool(runner.num_slots) if runner.num_slots else None
        self.scheduler = Scheduler(
            self.pool, max_tokens=tokens, max_seqs=seqs, context_length=runner.context_length, slots=self.slots
        )
        self.scheduler.preemptions = self.stats.preemptions
        self._launcher = Launcher(runner, tokens, seqs, self.pool, self.slots)
        self._ahead: Flight | None = None  # the step after the one that was last committed, if it was launched
        self._owners: dict[Request, tuple[Group, Completion]] = {}
        self._news: deque[tuple[bool, Group]] = deque()  # what came in and is not taken up yet
        self._changed: dict[str, tuple[Group, list[Completion]]] = {}  # what the next report tells
        self._outputs: list[RequestOutput] = []  # what an interrupted report had to tell

    @property
    def has_work(self) -> bool:
        """Whether a step has anything to do or to report."""
        return len(self.inbox) > 0 or bool(self._outputs)

    def add(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        *,
        request_id: str | None = None,
        prompt_text: str | None = None,
    ) -> str:
        """Queue a request and return its id. Raises as `Inbox.prepare` does."""
        group = self.inbox.prepare(prompt, params, request_id=request_id, prompt_text=prompt_text)
        return self.inbox.submit([group])[0]

    def cancel(self, request_id: str) -> bool:
        """End a request; the next step frees its pages and reports it as "abort". False if there is none (any more)."""
        return self.inbox.cancel(request_id)

    def abandon(self) -> None:
        """Forget every request, and report none of them: after a step that was cut short at any point, of which nobody
        knows what it has done. The thread that calls `step` may call it, between steps."""
        self.inbox.clear()
        self._begin()

    def step(self) -> list[RequestOutput]:
        """Compute one batch; returns what changed, request by request. Empty when there is nothing to do."""
        try:
            interrupt = self._advance()
        except BaseException as error:
            self._end_all(told(error))
            interrupt = None if isinstance(error, Exception) else error
        if interrupt is not None:
            raise interrupt
        return self._report()

    def _advance(self) -> BaseException | None:
        """The step itself; returns what interrupted it and is to be raised."""
        self.take_inbox()
        flight, self._ahead = self._ahead, None
        slices = flight.slices if flight else self.scheduler.schedule()
        interrupt = None
        if slices:
            self.stats.steps += 1
            interrupt = self._compute(slices, flight)
        self.stats.preemptions = self.scheduler.preemptions
        return interrupt

    def _compute(self, slices: list[Slice], flight: Flight | None) -> BaseException | None:
        """The step of `slices`, which is on its way if there is a `flight`; the one after it is launched meanwhile."""
        try:
            flight = flight or self._launcher.launch(slices, *self._sampling(slices))
            ahead = self._launch_ahead(flight)
            samples = self._launcher.collect(flight)
        except Exception as error:
            self._lose(slices, told(error))  # with whatever was launched on top of it
            return None
        except BaseException as interrupt:  # what was sampled was not taken up, and is sampled anew
            self._forget(slices)
            return interrupt
        interrupted = self._commit(flight, samples)
        self._keep(ahead)
        return interrupted

    def _launch_ahead(self, flight: Flight) -> Flight | Loss | None:
        """The next step on its way, where it is known before this one's ids are."""
        if not self._runner.goes_ahead or len(flight.requests) != len(flight.slices):
            return None
        if any(self._owners[request][0].unborn for request in flight.requests if not request.finished):
            return None
        slices = self.scheduler.ahead(flight.slices)
        try:
            return self._launcher.launch(slices, *self._sampling(slices), flight) if slices else None
        except Exception as error:
            return Loss(slices, told(error))

    def _keep(self, ahead: Flight | Loss | None) -> None:
        """Take up the step that was launched ahead, now that the one before it is committed."""
        going = [s for s in ahead.slices if not s.request.finished] if ahead else []
        if isinstance(ahead, Flight) and going:
            self._ahead = ahead
        elif isinstance(ahead, Flight):
            self.scheduler.commit(ahead.slices)
        elif ahead and going:
            self._lose(going, ahead.error)

    def take_inbox(self) -> None:
        """Take up what came in; a step begins with it. New requests are then in the scheduler's queue."""
        self._news.extend(self.inbox.take())
        while self._news:
            new, group = self._news.popleft()
            if new:
                for completion in group.completions:
                    self._owners[completion.request] = group, completion
                self.scheduler.add(group.completions[0].request)
            else:
                for completion in group.completions:
                    self._finish(completion, "abort", None)

    def _sampling(self, slices: list[Slice]) -> tuple[list[Request], list[int]]:
        """The requests that get a token of this step, and the row of each. Samples of one prompt share its first row;
        those yet unborn come before the one that has the pages."""
        requests: list[Request] = []
        rows: list[int] = []
        for row, request in enumerate(s.request for s in slices if s.samples):
            group, _ = self._owners[request]
            for completion in group.unborn:
                requests.append(completion.request)
                rows.append(row)
            requests.append(request)
            rows.append(row)
        return requests, rows

    def _commit(self, flight: Flight, samples: Samples) -> BaseException | None:
        """Take up what a step has sampled; returns what interrupted that."""
        interrupt: BaseException | None = None
        self.scheduler.commit(flight.slices)
        for row, (request, token) in enumerate(zip(flight.requests, samples.ids.tolist(), strict=True)):
            request.flying -= 1
            if request.finished:
                continue  # it ended while this step, which was launched ahead, was under way
            group, completion = self._owners[request]
            unborn = completion in group.unborn
            if group.unborn and not unborn:
                group.unborn = []
            if request.num_output == 0 and request.index == 0:
                self.stats.prompt_tokens += request.prompt_len
            if token < 0:
                error = NumericsError(
                    f"the logits of output token {request.num_output} have NaN or infinity, or allow no token",
                    where=f"request {request.id!r}, position {request.wanted - 1}",
                    remedy="check the model's file; a wider activation type helps against overflow",
                )
                self._finish(completion, "error", error)
                continue
            self.stats.generated_tokens += 1
            try:
                reason = completion.push(token, samples.logprobs.get(row))
            except BaseException as fault:
                self._finish(completion, "error", told(fault))
                interrupt = interrupt if isinstance(fault, Exception) else fault
                continue
            self._note(group, completion)
            if reason is not None:
                self._finish(completion, reason, None)
            elif unborn:  # while the first sample, which may end now, still has the prompt's pages
                self.scheduler.fork(group.completions[0].request, request)
        return interrupt

    def _forget(self, slices: list[Slice]) -> None:
        """What was sampled, or was to be, in a step that is lost."""
        requests, _ = self._sampling([s for s in slices if not s.request.finished])
        self._launcher.forget(requests)

    def _lose(self, slices: list[Slice], error: ForgeError) -> None:
        """The step gave nothing: make the next one smaller, or compute anew, if that helps; else fail its requests."""
        self._forget(slices)
        if isinstance(error, StateLostError):
            self.scheduler.recompute()
            return
        if isinstance(error, MemoryPlanError) and len(self.scheduler.running) > 1:
            self.scheduler.shrink()
            return
        for piece in slices:
            self._finish(self._owners[piece.request][1], "error", error)

    def _finish(
        self,
        completion: Completion,
        reason: FinishReason,
        error: ForgeError | None,
    ) -> None:
        request = completion.request
        if request.finished:
            return
        group, _ = self._owners[request]
        if reason in ("abort", "error"):
            try:
                completion.close()
            except Exception as fault:  # the text that was held back is lost
                reason, error = "error", error or told(fault)
        self.scheduler.finish(request, reason)
        self._launcher.sampler.forget(request)
        request.error = error
        if reason == "abort":
            self.stats.aborted += 1
        elif reason == "error":
            self.stats.failed += 1
        else:
            self.stats.finished += 1
        self._note(group, completion)
        del self._owners[request]
        if group.unborn and completion is group.completions[0]:
            unborn, group.unborn = group.unborn, []
            for child in unborn:
                self._finish(child, reason, error)

    def _end_all(self, error: ForgeError) -> None:
        """A defect left nobody knows what half done: end all that was taken up, and hold nothing any more."""
        self._ahead = None
        self.scheduler.reset()
        self._launcher.reset()
        for request, (group, completion) in self._owners.items():
            if not request.finished:
                request.state, request.finish_reason, request.error = "finished", "error", error
                self.stats.failed += 1
            request.pages, request.slot, group.unborn = [], -1, []
            self._note(group, completion)
        self._owners.clear()

    def _report(self) -> list[RequestOutput]:
        interrupt: BaseException | None = None
        while self._changed:
            group, completions = self._changed.pop(next(iter(self._changed)))
            try:
                output = group.output(completions)
                if group.finished:
                    self.inbox.forget(group)
            except BaseException as fault:
                output = self._fail(group, told(fault))
                interrupt = interrupt if isinstance(fault, Exception) else fault
            if output is not None:
                self._outputs.append(output)
        if interrupt is not None:
            raise interrupt
        outputs, self._outputs = self._outputs, []
        return outputs

    def _fail(self, group: Group, error: ForgeError) -> RequestOutput:
        """End a request that cannot be reported, and report that."""
        for completion in group.completions:
            self._finish(completion, "error", error)
        self._changed.pop(group.id, None)
        self.inbox.forget(group)
        return group.failed(error)

    def _note(self, group: Group, completion: Completion) -> None:
        _, completions = self._changed.setdefault(group.id, (group, []))
        if completion not in completions:
            completions.append(completion)


def _within(name: str, value: int | None, limit: int) -> int:
    """A limit of the engine's own, by default the runner's."""
    found = limit if value is None else integer(value)
    if found is None or not 1 <= found <= limit:
        raise UsageError(f"{name} is {shown(value)}", remedy=f"{name} is 1 to {limit}, which the model was opened with")
    return found
