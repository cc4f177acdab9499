"""Engine.step(): schedule -> launch -> collect -> commit. Many requests in, what is new of each out.

Where the runner computes beside the host, the next step is launched before this one's ids are collected, as long as it
can be no other: the host's work is then hidden behind the device's. What a request turns out not to want of a step that
was launched ahead is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forge.errors import ForgeError, MemoryPlanError, NumericsError, StateLostError, UsageError
from forge.runtime.admission import Admission
from forge.runtime.completion import Completion, Tokenizer
from forge.runtime.flight import FAULTS, Flight, Launcher, Loss, told
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
    A ForgeError of the runner fails the requests of its step. A memory error while there are several to a step only
    makes the steps smaller, and where states were lost all running requests are computed anew. In any case the engine
    stays usable and keeps every page and slot accounted for.
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
        tokens = runner.max_tokens if max_batched_tokens is None else max_batched_tokens
        seqs = runner.max_seqs if max_seqs is None else max_seqs
        _within("max_batched_tokens", tokens, runner.max_tokens)
        _within("max_seqs", seqs, runner.max_seqs)
        self._runner = runner
        self.pool = PagePool(runner.num_pages, runner.page_size)
        self.slots = SlotPool(runner.num_slots) if runner.num_slots else None
        self.scheduler = Scheduler(
            self.pool, max_tokens=tokens, max_seqs=seqs, context_length=runner.context_length, slots=self.slots
        )
        self.stats = EngineStats()
        self.inbox = Inbox(Admission(runner.vocab_size, tokenizer, self.scheduler), max_requests)
        self._launcher = Launcher(runner, tokens, seqs, self.pool, self.slots)
        self._ahead: Flight | None = None  # the step after the one that was last committed, if it was launched
        self._owners: dict[Request, tuple[Group, Completion]] = {}
        self._changed: dict[str, tuple[Group, list[Completion]]] = {}  # what the next report tells

    @property
    def has_work(self) -> bool:
        """Whether a step has anything to do or to report."""
        return len(self.inbox) > 0

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

    def step(self) -> list[RequestOutput]:
        """Compute one batch; returns what changed, request by request. Empty when there is nothing to do."""
        self.take_inbox()
        flight, self._ahead = self._ahead, None
        slices = flight.slices if flight else self.scheduler.schedule()
        if slices:
            self.stats.steps += 1
            self._compute(slices, flight)
        self.stats.preemptions = self.scheduler.preemptions
        return self._report()

    def _compute(self, slices: list[Slice], flight: Flight | None) -> None:
        """The step of `slices`, which is on its way if there is a `flight`; the one after it is launched meanwhile."""
        try:
            flight = flight or self._launcher.launch(slices, *self._sampling(slices))
            ahead = self._launch_ahead(flight)
            samples = self._launcher.collect(flight)
        except FAULTS as error:
            self._lose(slices, told(error))  # with whatever was launched on top of it
        except BaseException:  # a defect: what was sampled was not taken up, and is sampled anew
            self._forget(slices)
            raise
        else:
            self._commit(flight, samples)
            self._keep(ahead)

    def _launch_ahead(self, flight: Flight) -> Flight | Loss | None:
        """The next step on its way, where it is known before this one's ids are."""
        if not self._runner.goes_ahead or len(flight.requests) != len(flight.slices):
            return None
        if any(self._owners[request][0].unborn for request in flight.requests if not request.finished):
            return None
        slices = self.scheduler.ahead(flight.slices)
        try:
            return self._launcher.launch(slices, *self._sampling(slices), flight) if slices else None
        except FAULTS as error:
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
        for new, group in self.inbox.take():
            if new:
                self._owners.update((c.request, (group, c)) for c in group.completions)
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

    def _commit(self, flight: Flight, samples: Samples) -> None:
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
            reason = completion.push(token, samples.logprobs.get(row))
            self._note(group, completion)
            if reason is not None:
                self._finish(completion, reason, None)
            elif unborn:  # while the first sample, which may end now, still has the prompt's pages
                self.scheduler.fork(group.completions[0].request, request)

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
        group, _ = self._owners.pop(request)
        self.scheduler.finish(request, reason)
        self._launcher.sampler.forget(request)
        request.error = error
        if reason in ("abort", "error"):
            completion.close()
        if reason == "abort":
            self.stats.aborted += 1
        elif reason == "error":
            self.stats.failed += 1
        else:
            self.stats.finished += 1
        self._note(group, completion)
        if group.unborn and completion is group.completions[0]:
            unborn, group.unborn = group.unborn, []
            for child in unborn:
                self._finish(child, reason, error)

    def _report(self) -> list[RequestOutput]:
        changed, self._changed = self._changed, {}
        outputs = []
        for group, completions in changed.values():
            if group.finished:
                self.inbox.forget(group)
            if (output := group.output(completions)) is not None:
                outputs.append(output)
        return outputs

    def _note(self, group: Group, completion: Completion) -> None:
        _, completions = self._changed.setdefault(group.id, (group, []))
        if completion not in completions:
            completions.append(completion)


def _within(name: str, value: int, limit: int) -> None:
    if not 1 <= value <= limit:
        raise UsageError(f"{name} is {value}", remedy=f"{name} is 1 to {limit}, which the model was opened with")
