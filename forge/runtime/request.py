"""Request: one sequence from its prompt to its last token. computed <= wanted tokens; nothing else drives a step."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Literal

from forge.errors import ForgeError
from forge.runtime.params import SamplingParams
from forge.runtime.uniform import Uniforms

State = Literal["waiting", "running", "finished"]
FinishReason = Literal["stop", "length", "abort", "error"]


class Request:
    """One sequence. `tokens` is the prompt followed by the output; of these `computed` have their k and v in `pages`,
    and have been seen by the state in `slot` (-1 where models have no such state). `flying` tokens more were sampled by
    steps that are under way, and are not known here yet.

    Who changes what: the scheduler `computed`, `pages`, `slot` and `state`; the engine `tokens`, `flying` and how it
    ended.
    Compared by identity. `max_tokens` is the limit that holds (SamplingParams may leave it open) and `stop_ids` all ids
    that end the output.
    """

    __slots__ = (
        "computed",
        "error",
        "finish_reason",
        "flying",
        "id",
        "index",
        "max_tokens",
        "pages",
        "params",
        "prompt_len",
        "slot",
        "state",
        "stop_ids",
        "stop_reason",
        "tokens",
        "uniforms",
    )

    def __init__(
        self,
        request_id: str,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        max_tokens: int | None = None,
        stop_ids: frozenset[int] = frozenset(),
        seed: int | None = None,
        index: int = 0,
    ) -> None:
        self.id = request_id
        self.index = index
        self.params = params
        self.prompt_len = len(prompt_ids)
        self.tokens = list(prompt_ids)
        self.max_tokens = max_tokens if max_tokens is not None else (params.max_tokens or 0)
        self.stop_ids = stop_ids
        self.computed = self.flying = 0
        self.pages: list[int] = []
        self.slot = -1
        self.state: State = "waiting"
        self.finish_reason: FinishReason | None = None
        self.stop_reason: int | str | None = None
        self.error: ForgeError | None = None
        if seed is None:
            seed = params.seed if params.seed is not None else secrets.randbits(64)
        self.uniforms = Uniforms(seed, index)

    @property
    def wanted(self) -> int:
        """Tokens whose k and v the next sample needs."""
        return len(self.tokens)

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.prompt_len

    @property
    def next_output(self) -> int:
        """Which output token, from 0, a step that is launched now samples."""
        return self.num_output + self.flying

    @property
    def prompt_ids(self) -> list[int]:
        return self.tokens[: self.prompt_len]

    @property
    def output_ids(self) -> list[int]:
        return self.tokens[self.prompt_len :]

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    def __repr__(self) -> str:
        return f"Request({self.id!r}#{self.index}, {self.state}, computed {self.computed} of {self.wanted})"
