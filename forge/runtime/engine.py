"""Engine.step(): schedule -> run -> sample -> commit. Many requests in, what is new of each out."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from forge.errors import ForgeError, MemoryPlanError, NumericsError, RequestError, UsageError
from forge.runtime.batch import BatchBuilder, Runner
from forge.runtime.completion import Completion, Tokenizer
from forge.runtime.output import RequestOutput
from forge.runtime.pages import PagePool
from forge.runtime.params import RequestOutputKind, SamplingParams
from forge.runtime.request import FinishReason, Request
from forge.runtime.sampling import Argmax, Sampler, Samples, greedy_ids
from forge.runtime.scheduler import Scheduler, Slice


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


@dataclass(slots=True)
class _Group:
    """A request as the user knows it: its n samples, of which `unborn` wait for the first one's prompt."""

    id: str
    prompt: str | None
    prompt_ids: list[int]
    params: SamplingParams
    completions: list[Completion]
    unborn: list[Completion]

    @property
    def finished(self) -> bool:
        return all(c.request.finished for c in self.completions)


class Engine:
    """Runs requests on a `Runner`, several at a time.

    Threads: one thread at a time calls `step`, and it alone reads `stats`, `pool` and `scheduler` exactly. `add`,
    `cancel` and `has_work` may be called from any thread at any time; they take effect at the start of the next step.
    A ForgeError of the runner fails the requests of its step, a memory error while there are several to a step only
    makes the steps smaller; either way the engine stays usable and keeps every page accounted for.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer | None,
        *,
        max_batched_tokens: int | None = None,
        max_seqs: int | None = None,
        argmax: Argmax = greedy_ids,
    ) -> None:
        tokens = runner.max_tokens if max_batched_tokens is None else max_batched_tokens
        seqs = runner.max_seqs if max_seqs is None else max_seqs
        _within("max_batched_tokens", tokens, runner.max_tokens)
        _within("max_seqs", seqs, runner.max_seqs)
        if tokenizer is not None and max(tokenizer.stop_ids, default=0) >= runner.vocab_size:
            raise UsageError(
                f"the tokenizer's stop ids {sorted(tokenizer.stop_ids)} are not all among the model's "
                f"{runner.vocab_size} tokens",
                remedy="use the tokenizer that belongs to the model",
            )
        self._runner = runner
        self._tokenizer = tokenizer
        self.pool = PagePool(runner.num_pages, runner.page_size)
        self.scheduler = Scheduler(self.pool, max_tokens=tokens, max_seqs=seqs, context_length=runner.context_length)
        self.stats = EngineStats()
        self._builder = BatchBuilder(
            max_tokens=tokens, max_seqs=seqs, page_size=runner.page_size, context_length=runner.context_length
        )
        self._sampler = Sampler(runner.vocab_size, runner.device, argmax)
        self._lock = threading.Lock()  # guards the three below
        self._groups: dict[str, _Group] = {}
        self._inbox: deque[tuple[bool, _Group]] = deque()  # (whether it is new, else to be cancelled; the group)
        self._names = itertools.count()
        self._owners: dict[Request, tuple[_Group, Completion]] = {}
        self._changed: dict[str, tuple[_Group, list[Completion]]] = {}  # what the next report tells

    @property
    def has_work(self) -> bool:
        """Whether a step has anything to do or to report."""
        with self._lock:
            return bool(self._groups)

    def add(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        *,
        request_id: str | None = None,
        prompt_text: str | None = None,
    ) -> str:
        """Queue a request and return its id. A prompt given as ids may bring its text for the outputs.

        Raises RequestError or CacheFullError for what can never run, UsageError for arguments that do not fit.
        """
        params = SamplingParams() if params is None else params
        if isinstance(prompt, str):
            if self._tokenizer is None:
                raise UsageError("a prompt of text needs a tokenizer", remedy="give the prompt as token ids")
            prompt_text, ids = prompt, self._tokenizer.encode(prompt)
        else:
            ids = list(prompt)
        if request_id is None:
            request_id = f"request-{next(self._names)}"
        requests = self._requests(request_id, ids, params)
        completions = [Completion(request, self._tokenizer) for request in requests]
        group = _Group(request_id, prompt_text, ids, params, completions, completions[1:])
        with self._lock:
            if request_id in self._groups:
                raise UsageError(f"request id {request_id!r} is in use", remedy="give each running request its own id")
            self._groups[request_id] = group
            self._inbox.append((True, group))
        return request_id

    def cancel(self, request_id: str) -> bool:
        """End a request; the next step frees its pages and reports it as "abort". False if there is none (any more)."""
        with self._lock:
            group = self._groups.get(request_id)
            if group is None:
                return False
            self._inbox.append((False, group))
            return True

    def step(self) -> list[RequestOutput]:
        """Compute one batch; returns what changed, request by request. Empty when there is nothing to do."""
        self._take_inbox()
        slices = self.scheduler.schedule()
        if slices:
            self.stats.steps += 1
            sampling = [s.request for s in slices if s.samples]
            try:
                samples = self._compute(slices, sampling)
            except ForgeError as error:
                self._lose(slices, error)
            except torch.OutOfMemoryError as error:
                remedy = "open the model with fewer pages, or smaller max_batched_tokens or max_seqs"
                self._lose(slices, MemoryPlanError(str(error), where="a step of the engine", remedy=remedy))
            else:
                self.scheduler.commit(slices)
                self._commit(sampling, samples)
        self.stats.preemptions = self.scheduler.preemptions
        return self._report()

    def _requests(self, request_id: str, ids: list[int], params: SamplingParams) -> list[Request]:
        """The n sequences of a request, checked against what the model and the pool can do."""
        vocab = self._runner.vocab_size
        where = f"request {request_id!r}"
        own = tuple(params.stop_token_ids or ())
        for name, tokens in (("the prompt", ids), ("stop_token_ids", own)):
            if tokens and not 0 <= min(tokens) <= max(tokens) < vocab:
                raise RequestError(
                    f"{name} has token ids from {min(tokens)} to {max(tokens)}; the model has {vocab} tokens",
                    where=where,
                    remedy=f"give ids of 0 to {vocab - 1}",
                )
        if (params.logprobs or 0) > vocab:
            raise RequestError(f"logprobs is {params.logprobs}", where=where, remedy=f"ask for at most {vocab}")
        if params.stop and self._tokenizer is None:
            raise UsageError("stop strings need a tokenizer", where=where, remedy="use stop_token_ids")
        ends = self._tokenizer.stop_ids if self._tokenizer is not None and not params.ignore_eos else frozenset()
        longest = max(1, self.scheduler.longest_output(len(ids)))
        most = longest if params.max_tokens is None else params.max_tokens
        seed = secrets.randbits(64) if params.seed is None else params.seed
        requests = [
            Request(request_id, ids, params, max_tokens=most, stop_ids=ends.union(own), seed=seed, index=index)
            for index in range(params.n)
        ]
        self.scheduler.check(requests[0])
        return requests

    def _take_inbox(self) -> None:
        with self._lock:
            inbox = list(self._inbox)
            self._inbox.clear()
        for new, group in inbox:
            if new:
                self._owners.update((c.request, (group, c)) for c in group.completions)
                self.scheduler.add(group.completions[0].request)
            else:
                for completion in group.completions:
                    self._finish(completion, "abort", None)

    def _compute(self, slices: list[Slice], sampling: list[Request]) -> Samples:
        batch = self._builder.build(slices, self.pool.copies)
        if batch.page_copies:
            self._runner.copy_pages(batch.page_copies)
        logits = self._runner.run(batch)
        assert logits.shape == (len(sampling), self._runner.vocab_size), f"logits of shape {tuple(logits.shape)}"
        return self._sampler.sample(logits, sampling)

    def _commit(self, sampling: list[Request], samples: Samples) -> None:
        for request in sampling:
            group, _ = self._owners[request]
            if request.num_output == 0:
                self.stats.prompt_tokens += request.prompt_len if request.index == 0 else 0
                # Before the first sample may end and free the prompt's pages.
                for child in group.unborn:
                    self.scheduler.fork(request, child.request)
                group.unborn = []
        for row, (request, token) in enumerate(zip(sampling, samples.ids.tolist(), strict=True)):
            group, completion = self._owners[request]
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

    def _lose(self, slices: list[Slice], error: ForgeError) -> None:
        """The step gave nothing: make the next one smaller if that may help, else fail its requests."""
        for piece in slices:
            self._sampler.forget(piece.request)
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
        self._sampler.forget(request)
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
            kind, finished = group.params.output_kind, group.finished
            if finished:
                with self._lock:
                    del self._groups[group.id]
            if kind is RequestOutputKind.FINAL_ONLY and not finished:
                continue
            delta = kind is RequestOutputKind.DELTA
            shown = completions if delta else group.completions
            samples = [completion.output(delta=delta) for completion in shown]
            outputs.append(RequestOutput(group.id, group.prompt, group.prompt_ids, samples, finished))
        return outputs

    def _note(self, group: _Group, completion: Completion) -> None:
        _, completions = self._changed.setdefault(group.id, (group, []))
        if completion not in completions:
            completions.append(completion)


def _within(name: str, value: int, limit: int) -> None:
    if not 1 <= value <= limit:
        raise UsageError(f"{name} is {value}", remedy=f"{name} is 1 to {limit}, which the model was opened with")
