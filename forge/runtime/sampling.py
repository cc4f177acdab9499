"""ids[R] = sample(logits[R, V]): queued on the logits' device; the ids come to the host in one copy, -1 for a bad row.

A sampled id is the inverse of the cumulative distribution at one uniform number of (seed, output position), so it
depends on the request's own logits and nothing else in the batch. Distributions: exp in float32, sums in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forge.runtime.logprobs import Logprobs
from forge.runtime.output import Logprob
from forge.runtime.penalties import TokenCounts
from forge.runtime.request import Request
from forge.runtime.runner import Pending
from forge.runtime.transfer import upload


def greedy_ids(logits: torch.Tensor) -> torch.Tensor:
    """id[R] = argmax_v logits[R, V], the lowest id among equals; -1 where a row holds NaN or +inf, or only -inf."""
    peak, ids = logits.max(-1)
    return torch.where(torch.isfinite(peak), ids, -1)


def draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: torch.Tensor, min_p: torch.Tensor) -> torch.Tensor:
    """id[R] ~ softmax(logits[R, V] / temperature) over tokens with p >= min_p * max p; each parameter float64 [R].

    The distribution is inverted in the order of the ids. A row without a finite peak gives an arbitrary id.
    """
    weight = _weights(logits, temperature, min_p)
    mass = weight.cumsum(-1, dtype=torch.float64)
    return _invert(mass, uniform * mass[:, -1])


def draw_filtered(
    logits: torch.Tensor,
    uniform: torch.Tensor,
    temperature: torch.Tensor,
    min_p: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
) -> torch.Tensor:
    """As `draw`, then only the top_k likeliest (0 or less: all), then of these the fewest whose share is top_p.

    The likeliest come first, equals in the order of their ids, so every filter keeps the head of the order.
    """
    ordered, ids = torch.sort(logits, dim=-1, descending=True, stable=True)
    weight = _weights(ordered, temperature, min_p)
    rank = torch.arange(weight.shape[-1], device=weight.device)
    weight = weight * ((rank < top_k[:, None]) | (top_k[:, None] <= 0))
    mass = weight.cumsum(-1, dtype=torch.float64)
    # A token is kept if those before it do not yet have the share.
    kept = (mass - weight) < top_p[:, None] * mass[:, -1:]
    mass = (weight * kept).cumsum(-1, dtype=torch.float64)
    return ids.gather(-1, _invert(mass, uniform * mass[:, -1])[:, None])[:, 0]


def _weights(logits: torch.Tensor, temperature: torch.Tensor, min_p: torch.Tensor) -> torch.Tensor:
    """exp((logit - peak) / temperature): 1 at the peak, 0 below min_p. float32, cannot overflow."""
    peak = logits.amax(-1, keepdim=True)
    weight = ((logits - peak) / temperature[:, None].to(logits.dtype)).exp()
    return weight * (weight >= min_p[:, None])


def _invert(mass: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """First index whose mass exceeds `at`."""
    index = torch.searchsorted(mass, at[:, None], right=True)[:, 0]
    return index.clamp(max=mass.shape[-1] - 1)


@dataclass(frozen=True, slots=True)
class Samples:
    """ids[R] on the host, -1 where the logits were bad; logprobs of the rows that asked for them."""

    ids: NDArray[np.int64]
    logprobs: dict[int, dict[int, Logprob]]


class PendingSamples:
    """Samples on their way to the host; `collect` waits for them."""

    def __init__(self, ids: Pending, logprobs: Logprobs | None = None) -> None:
        self._ids, self._logprobs = ids.fetch(), logprobs

    @property
    def ids(self) -> torch.Tensor:
        """The ids on the device, until the runner's next launch."""
        return self._ids.ids

    def collect(self) -> Samples:
        return Samples(self._ids.collect(), self._logprobs.collect() if self._logprobs is not None else {})


class Sampler:
    """Samples a batch of rows of different requests. Holds token counts of penalized requests until `forget`."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._device = device
        self._counts = TokenCounts(vocab_size, device)

    def forget(self, request: Request) -> None:
        """Drop what is held for `request`: it ended, or a step of it was lost."""
        self._counts.forget(request)

    def reset(self) -> None:
        """Drop what is held for any request."""
        self._counts.reset()

    def launch(self, step: Pending, requests: Sequence[Request]) -> PendingSamples:
        """Queue the choice of one id for each row of a step, which belong to `requests`.

        Rows whose logits are taken as they are, and greedily, get the ids that the step has computed.
        """
        if all(r.params.plain_greedy and not _held_open(r) for r in requests):
            return PendingSamples(step)
        ids = self._choose(step, requests)
        asking = [i for i, r in enumerate(requests) if r.params.logprobs is not None]
        logprobs = Logprobs(step.logits, ids, requests, asking) if asking else None
        return PendingSamples(Pending(step.logits, ids), logprobs)

    def _choose(self, step: Pending, requests: Sequence[Request]) -> torch.Tensor:
        logits, ids = step.logits, step.ids.to(torch.int64, copy=True)
        penalized = [i for i, r in enumerate(requests) if r.params.penalized]
        banned = [(i, token) for i, r in enumerate(requests) if _held_open(r) for token in r.stop_ids]
        if penalized or banned:
            logits = logits.clone()
        if penalized:
            where, owners = self._index(penalized), [requests[i] for i in penalized]
            rows = self._counts.rows(owners)
            self._counts.penalize(logits, where, rows, owners)
        if banned:
            row, token = self._index(banned).unbind(-1)
            # A number on the host would be copied to the device, and waited for.
            logits.index_put_((row, token), logits.new_full((), -torch.inf))
        if changed := sorted({*penalized, *(i for i, _ in banned)}):
            at = self._index(changed)
            ids[at] = greedy_ids(logits[at])
        # Greedy rows are now done, and bad rows of every kind are -1.
        for sorting in (False, True):
            group = [i for i, r in enumerate(requests) if r.params.temperature > 0 and _sorts(r) == sorting]
            if group:
                at = self._index(group)
                drawn = self._draw(logits[at], [requests[i] for i in group], sorting)
                ids[at] = torch.where(ids[at] < 0, -1, drawn)
        if penalized:
            self._counts.count(rows, ids[where])
        return ids

    def _draw(self, logits: torch.Tensor, requests: Sequence[Request], sorting: bool) -> torch.Tensor:
        rows = []
        for request in requests:
            p, uniform = request.params, request.uniforms.at(request.next_output)
            rows.append((uniform, p.temperature, p.min_p, p.top_k, p.top_p))
        columns = upload(rows, self._device, torch.float64).unbind(-1)
        return draw_filtered(logits, *columns) if sorting else draw(logits, *columns[:3])

    def _index(self, values: Sequence[object]) -> torch.Tensor:
        return upload(values, self._device, torch.int64)


def _held_open(request: Request) -> bool:
    """Whether stop ids are still excluded, as the output is shorter than min_tokens."""
    return request.next_output < request.params.min_tokens and bool(request.stop_ids)


def _sorts(request: Request) -> bool:
    return request.params.top_p < 1 or request.params.top_k > 0
