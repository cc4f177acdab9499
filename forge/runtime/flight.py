"""Flights: steps on their way. A launcher puts them there, and brings back what was sampled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from forge.allocation import out_of_memory
from forge.errors import DefectError, ForgeError, MemoryPlanError
from forge.runtime.batch import NONE_KEPT, BatchBuilder
from forge.runtime.pages import PagePool
from forge.runtime.request import Request
from forge.runtime.runner import Pending, Runner
from forge.runtime.sampling import PendingSamples, Sampler, Samples
from forge.runtime.scheduler import Slice
from forge.runtime.slots import SlotPool
from forge.runtime.transfer import upload


@dataclass(frozen=True, slots=True)
class Flight:
    """A step that was launched: its slices, the requests that get a token of it, and their samples to be collected."""

    slices: list[Slice]
    requests: list[Request]
    samples: PendingSamples


@dataclass(frozen=True, slots=True)
class Loss:
    """A step that could not be launched."""

    slices: list[Slice]
    error: ForgeError


class Launcher:
    """Launches steps on a runner, each with the copies of pages and slots that must come before it.

    `sampler` holds what it needs of requests from step to step. One thread may use it at a time.
    """

    def __init__(self, runner: Runner, max_tokens: int, max_seqs: int, pool: PagePool, slots: SlotPool | None) -> None:
        self._runner, self._pool, self._slots = runner, pool, slots
        self._builder = BatchBuilder(
            max_tokens=max_tokens,
            max_seqs=max_seqs,
            page_size=runner.page_size,
            context_length=runner.context_length,
        )
        self.sampler = Sampler(runner.vocab_size, runner.device)
        self._unwaited: PendingSamples | None = None  # of a step that gave no token

    def launch(
        self, slices: list[Slice], requests: list[Request], rows: list[int], before: Flight | None = None
    ) -> Flight:
        """Put a step on its way. `rows` are those of the logits for each of the `requests`.

        With a step `before`, which is under way, its tokens are the ids that this one gives.
        """
        kept = NONE_KEPT if before is None else {request: row for row, request in enumerate(before.requests)}
        batch = self._builder.build(slices, self._pool.copies, kept=kept)
        runner, slots = self._runner, self._slots
        with runner.turn:
            if batch.page_copies:
                runner.copy_pages(batch.page_copies)
            if slots is not None and (slots.copies or slots.cleared):
                runner.change_slots(slots.copies, slots.cleared)
            step = runner.launch(batch)
            count, vocab = len(batch.logit_rows), runner.vocab_size
            assert step.logits.shape == (count, vocab), f"logits of shape {tuple(step.logits.shape)}"
            assert step.ids.shape == (count,), f"ids of shape {tuple(step.ids.shape)}"
            if len(rows) > count:
                at = upload(rows, runner.device, torch.int64)
                step = Pending(step.logits[at], step.ids[at])
            flight = Flight(slices, requests, self.sampler.launch(step, requests))
            if runner.goes_ahead and len(rows) == count:
                runner.keep(flight.samples.ids)
        for request in requests:
            request.flying += 1
        return flight

    def collect(self, flight: Flight) -> Samples:
        """The step's samples. A step within prompts gives none, and is waited for when the next one was launched."""
        before, self._unwaited = self._unwaited, None
        if before is not None:
            before.collect()
        if flight.requests:
            return flight.samples.collect()
        self._unwaited = flight.samples
        return Samples(np.zeros(0, np.int64), {})

    def forget(self, requests: list[Request]) -> None:
        """What was sampled of these requests, or was to be, is lost."""
        for request in requests:
            self.sampler.forget(request)
            request.flying = 0

    def reset(self) -> None:
        """All that was sampled of any request, or was to be, is lost."""
        self._unwaited = None
        self.sampler.reset()


def told(error: BaseException) -> ForgeError:
    """What ended a step, or a request in it, as one of our errors."""
    if isinstance(error, ForgeError):
        return error
    if out_of_memory(error):
        remedy = "open the model with fewer pages, or smaller max_batched_tokens or max_seqs"
        return MemoryPlanError(str(error), where="a step of the engine", remedy=remedy)
    return DefectError(error, where="a step of the engine")
