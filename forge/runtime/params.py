"""SamplingParams: how one request is sampled and when it ends, with the field names that vLLM's users know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from forge.arguments import integer, integers, listed, number, shown
from forge.errors import UsageError


class RequestOutputKind(Enum):
    """What each step reports of a request: all so far, what is new, or only the end."""

    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Checked when made; raises `UsageError` naming the field and its range.

    Order of the filters: penalties, temperature, min_p, top_k, top_p (over what is left, renormalized).

    n                   samples of the prompt; their prompt is computed once
    temperature         0 is greedy
    top_k               0 or -1 is off
    top_p, min_p        1 and 0 are off; min_p is relative to the likeliest token
    repetition_penalty  divides positive and multiplies negative logits of tokens in the prompt or the output; 1 is off
    presence_penalty    subtracted from the logits of tokens in the output; 0 is off
    frequency_penalty   the same, times the token's count in the output; 0 is off
    seed                None draws one; with a seed, equal logits give the same ids whatever runs beside the request
    stop                strings that end the text; the text stops before them unless include_stop_str_in_output
    stop_token_ids      ids that end the output, beside the tokenizer's own
    max_tokens          None is as many as the context and the pool hold
    min_tokens          until so many tokens, no stop id is sampled and no stop string looked for
    logprobs            log probabilities of so many likeliest tokens and of the sampled one, before any filter
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    max_tokens: int | None = 16
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    skip_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE

    def __post_init__(self) -> None:
        self._integer("n", 1, 1024)
        # Below 1e-5 the division of logits would leave float32's range; such a wish is greedy's.
        if number(self.temperature) == 0:
            object.__setattr__(self, "temperature", 0.0)
        else:
            self._real("temperature", 1e-5, 1e5, "0 (greedy), or 1e-5 to 1e5")
        self._real("top_p", 0.0, 1.0, "over 0, to 1", open_low=True)
        self._integer("top_k", -1, 2**31 - 1)
        self._real("min_p", 0.0, 1.0, "0 to 1")
        self._real("repetition_penalty", 0.0, 1e5, "over 0, to 1e5", open_low=True)
        self._real("presence_penalty", -2.0, 2.0, "-2 to 2")
        self._real("frequency_penalty", -2.0, 2.0, "-2 to 2")
        for name, low, high in (("seed", 0, 2**64 - 1), ("max_tokens", 1, 2**31 - 1), ("logprobs", 0, 2**31 - 1)):
            if getattr(self, name) is not None:
                self._integer(name, low, high)
        self._integer("min_tokens", 0, 2**31 - 1 if self.max_tokens is None else self.max_tokens)
        for name in ("ignore_eos", "skip_special_tokens", "include_stop_str_in_output"):
            if not isinstance(getattr(self, name), bool):
                raise self._wrong(name, "True or False")
        if self.n > 1 and self.temperature == 0:
            raise self._wrong("n", "1 when temperature is 0, as greedy samples are all the same")
        stop = (self.stop,) if isinstance(self.stop, str) else () if self.stop is None else listed(self.stop)
        if stop is None or not all(isinstance(s, str) and s for s in stop):
            raise self._wrong("stop", "one string or a list of them, none of them empty")
        ids = [] if self.stop_token_ids is None else integers(self.stop_token_ids)
        if ids is None or not all(0 <= i < 2**31 for i in ids):
            raise self._wrong("stop_token_ids", f"a list of token ids, 0 to {2**31 - 1}")
        if not isinstance(self.output_kind, RequestOutputKind):
            raise self._wrong("output_kind", "a RequestOutputKind")
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(ids))

    def _integer(self, name: str, low: int, high: int) -> None:
        """Make the field the int that it stands for."""
        found = integer(getattr(self, name))
        if found is None or not low <= found <= high:
            raise self._wrong(name, f"an integer, {low} to {high}")
        object.__setattr__(self, name, found)

    def _real(self, name: str, low: float, high: float, text: str, *, open_low: bool = False) -> None:
        """Make the field the float that it stands for."""
        found = number(getattr(self, name))
        if found is None or not low <= found <= high or (open_low and found == low):
            raise self._wrong(name, f"a number, {text}")
        object.__setattr__(self, name, found)

    def _wrong(self, name: str, wanted: str) -> UsageError:
        return UsageError(f"SamplingParams: {name} is {shown(getattr(self, name))}", remedy=f"{name} is {wanted}")

    @property
    def penalized(self) -> bool:
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    @property
    def plain_greedy(self) -> bool:
        """Whether a sample is the index of the largest logit and nothing else is asked."""
        return self.temperature == 0 and self.logprobs is None and not self.penalized
