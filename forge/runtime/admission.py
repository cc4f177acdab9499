"""Admission: a prompt and its parameters become a group of requests that can run, or an error with the numbers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from forge.arguments import integers, shown
from forge.errors import RequestError, UsageError
from forge.runtime.completion import Completion, Tokenizer
from forge.runtime.group import Group
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.scheduler import Scheduler


class Admission:
    """Judges requests by what the model, the context and the pool can hold. Changes nothing; any thread may use it."""

    def __init__(self, vocab_size: int, tokenizer: Tokenizer | None, scheduler: Scheduler) -> None:
        if tokenizer is not None and max(tokenizer.stop_ids, default=0) >= vocab_size:
            raise UsageError(
                f"the tokenizer's stop ids {sorted(tokenizer.stop_ids)} are not all among the model's "
                f"{vocab_size} tokens",
                remedy="use the tokenizer that belongs to the model",
            )
        self._vocab, self._tokenizer, self._scheduler = vocab_size, tokenizer, scheduler

    def group(
        self, request_id: str, prompt: str | Sequence[int], params: SamplingParams, prompt_text: str | None
    ) -> Group:
        """The n sequences of a request. Raises RequestError, CacheFullError or UsageError."""
        if isinstance(prompt, str):
            prompt_text, ids = prompt, self._encode(request_id, prompt)
        else:
            ids = _ids(request_id, prompt)
        requests = self._requests(request_id, ids, params)
        completions = [Completion(request, self._tokenizer) for request in requests]
        return Group(request_id, prompt_text, ids, params, completions, completions[1:])

    def _encode(self, request_id: str, prompt: str) -> list[int]:
        if self._tokenizer is None:
            raise UsageError("a prompt of text needs a tokenizer", remedy="give the prompt as token ids")
        context, fewest = self._scheduler.context_length, self._tokenizer.fewest_tokens(prompt)
        if fewest >= context:  # found at once, where encoding would take long
            raise RequestError(
                f"the prompt's {len(prompt):,} characters are at least {fewest:,} tokens, and one must follow; the "
                f"context length is {context}",
                where=f"request {request_id!r}",
                remedy="shorten the prompt or open the model with a longer context",
            )
        return self._tokenizer.encode_prompt(prompt)

    def _requests(self, request_id: str, ids: list[int], params: SamplingParams) -> list[Request]:
        where = f"request {request_id!r}"
        own = tuple(params.stop_token_ids or ())
        for name, tokens in (("the prompt", ids), ("stop_token_ids", own)):
            if tokens and not 0 <= min(tokens) <= max(tokens) < self._vocab:
                lowest, highest = shown(min(tokens)), shown(max(tokens))
                raise RequestError(
                    f"{name} has token ids from {lowest} to {highest}; the model has {self._vocab} tokens",
                    where=where,
                    remedy=f"give ids of 0 to {self._vocab - 1}",
                )
        if (params.logprobs or 0) > self._vocab:
            raise RequestError(f"logprobs is {params.logprobs}", where=where, remedy=f"ask for at most {self._vocab}")
        if params.stop and self._tokenizer is None:
            raise UsageError("stop strings need a tokenizer", where=where, remedy="use stop_token_ids")
        ends = self._tokenizer.stop_ids if self._tokenizer is not None and not params.ignore_eos else frozenset()
        longest = max(1, self._scheduler.longest_output(len(ids)))
        most = longest if params.max_tokens is None else params.max_tokens
        seed = secrets.randbits(64) if params.seed is None else params.seed
        requests = [
            Request(request_id, ids, params, max_tokens=most, stop_ids=ends.union(own), seed=seed, index=index)
            for index in range(params.n)
        ]
        self._scheduler.check(requests[0])
        if params.min_tokens > most:
            raise RequestError(
                f"after {len(ids)} prompt tokens there is room for {most} more, and min_tokens is {params.min_tokens}",
                where=where,
                remedy="shorten the prompt, lower min_tokens or open the model with a longer context",
            )
        return requests


def _ids(request_id: str, prompt: Sequence[int]) -> list[int]:
    """A prompt given as token ids: ints, or what stands for one, as an element of an array does."""
    ids = integers(prompt)
    if ids is None:
        raise RequestError(
            f"the prompt {shown(prompt)} is neither text nor token ids",
            where=f"request {request_id!r}",
            remedy="text, or a list of ints",
        )
    return ids
