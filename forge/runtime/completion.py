"""Completion: the text side of one sequence. Takes token ids, gives text, and says when the sequence is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from forge.runtime.output import CompletionOutput, Logprob
from forge.runtime.request import FinishReason, Request
from forge.runtime.stops import StopStrings


class TextStream(Protocol):
    """Text of ids one by one; `push` may hold back bytes of an unfinished character, `flush` gives what is left."""

    def push(self, token: int, /) -> str: ...

    def flush(self) -> str: ...


class Tokenizer(Protocol):
    """What the engine needs of a tokenizer. Every method may be called from any thread; a stream from one at a time."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def stop_ids(self) -> frozenset[int]: ...

    def encode_prompt(self, prompt: str, /) -> list[int]: ...

    def fewest_tokens(self, text: str) -> int: ...

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str: ...

    def stream(self, *, skip_special: bool = True) -> TextStream: ...


class Completion:
    """One sample of a request: its output tokens, their text and log probabilities, and what was reported of them.

    Without a tokenizer the text stays empty, and so does that of ids which the model has and the tokenizer lacks.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer | None) -> None:
        self.request = request
        self._tokenizer = tokenizer
        params = request.params
        self._stream = tokenizer.stream(skip_special=params.skip_special_tokens) if tokenizer is not None else None
        self._stops = StopStrings(tuple(params.stop or ()), params.include_stop_str_in_output)
        self._text: list[str] = []
        self._logprobs: list[dict[int, Logprob]] | None = [] if params.logprobs is not None else None
        self._cumulative: float | None = 0.0 if params.logprobs is not None else None
        self._told_text = 0  # pieces of _text that a delta has reported
        self._told_tokens = 0

    def push(self, token: int, logprobs: dict[int, Logprob] | None) -> FinishReason | None:
        """Take the next token; returns why the sequence is over, if it is, and then sets `request.stop_reason`."""
        request, params = self.request, self.request.params
        request.tokens.append(token)
        if logprobs is not None:
            self._keep(token, logprobs)
        if token in request.stop_ids:
            if token in (params.stop_token_ids or ()):
                request.stop_reason = token
            if params.include_stop_str_in_output:
                self._say(self._push(token))
            self.close()
            return "stop"
        self._say(self._push(token))
        if request.num_output >= request.max_tokens and not self._stops.matched:
            self.close()
            if not self._stops.matched:
                return "length"
        if self._stops.matched:
            request.stop_reason = self._stops.matched
            return "stop"
        return None

    def close(self) -> None:
        """No more tokens will come: give out the text that was held back."""
        if not self._stops.matched:
            self._say(self._stream.flush() if self._stream is not None else "")
        if not self._stops.matched:
            self._text.append(self._stops.flush())

    def output(self, *, delta: bool) -> CompletionOutput:
        """All that is known, or with `delta` what is new since the last delta."""
        request = self.request
        first, text = (self._told_tokens, self._told_text) if delta else (0, 0)
        output = CompletionOutput(
            index=request.index,
            text="".join(self._text[text:]),
            token_ids=request.tokens[request.prompt_len + first :],
            cumulative_logprob=self._cumulative,
            logprobs=None if self._logprobs is None else self._logprobs[first:],
            finish_reason=request.finish_reason,
            stop_reason=request.stop_reason,
            error=request.error,
        )
        if delta:
            self._told_tokens, self._told_text = request.num_output, len(self._text)
        else:
            # Joining once keeps a cumulative report from joining all pieces again each time.
            self._text = [output.text]
        return output

    def _push(self, token: int) -> str:
        return self._stream.push(token) if self._stream is not None and self._named(token) else ""

    def _named(self, token: int) -> bool:
        """Whether the tokenizer has the token: an embedding may have more rows, which stand for no text."""
        return self._tokenizer is not None and token < self._tokenizer.vocab_size

    def _say(self, text: str) -> None:
        # Tokens up to min_tokens can neither end the text nor begin a stop string.
        if self.request.num_output > self.request.params.min_tokens:
            text = self._stops.push(text)
        if text:
            self._text.append(text)

    def _keep(self, token: int, logprobs: dict[int, Logprob]) -> None:
        if self._tokenizer is not None:
            decode = self._tokenizer.decode
            logprobs = {
                t: Logprob(entry.logprob, entry.rank, decode([t], skip_special=False) if self._named(t) else "")
                for t, entry in logprobs.items()
            }
        assert self._logprobs is not None and self._cumulative is not None
        self._logprobs.append(logprobs)
        self._cumulative += logprobs[token].logprob
