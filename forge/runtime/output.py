"""What a step reports: RequestOutput and CompletionOutput, with the field names that vLLM's users know."""

from __future__ import annotations

from dataclasses import dataclass

from forge.errors import ForgeError
from forge.runtime.request import FinishReason


@dataclass(frozen=True, slots=True)
class Logprob:
    """Natural log of the probability before any filter; rank 1 is the likeliest token."""

    logprob: float
    rank: int
    decoded_token: str = ""


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One sample of a request. With RequestOutputKind.DELTA, text, token_ids and logprobs hold only what is new.

    `finish_reason` is None while it runs; `stop_reason` is the stop string or stop_token_ids entry that ended it, None
    for the tokenizer's own end of text. `error` is set where finish_reason is "error".
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: ForgeError | None = None

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """The state of a request after a step; `finished` once all its samples are."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool
