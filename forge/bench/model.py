"""Tokens per second of a whole model, by the tests that llama-bench made usual.

    pp N    N tokens of one prompt, of which only the last wants logits
    tg N    N tokens one by one from an empty context, each sampled id fed back

Both go through the engine as a request of a user does: scheduling, pages and sampling are in the time.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from forge.errors import UsageError
from forge.runtime.engine import Engine
from forge.runtime.params import SamplingParams

if TYPE_CHECKING:
    from forge.compiled import CompiledModel


@dataclass(frozen=True)
class Test:
    """`kind` "pp" or "tg", of `tokens` tokens in each of `seqs` requests at a time."""

    kind: str
    tokens: int
    seqs: int = 1

    def __str__(self) -> str:
        return f"{self.kind}{self.tokens}" + (f" x{self.seqs}" if self.seqs > 1 else "")


@dataclass(frozen=True)
class ModelRow:
    """The repetitions of one test: tokens per second of all its requests together."""

    test: Test
    rates: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.rates)

    @property
    def stddev(self) -> float:
        return statistics.stdev(self.rates) if len(self.rates) > 1 else 0.0

    def json(self) -> dict[str, Any]:
        return {
            "test": str(self.test),
            "tokens": self.test.tokens,
            "seqs": self.test.seqs,
            "tokens_per_second": self.mean,
            "stddev": self.stddev,
            "median": statistics.median(self.rates),
            "min": min(self.rates),
            "max": max(self.rates),
            "samples": list(self.rates),
        }


def check(model: CompiledModel, tests: Sequence[Test]) -> None:
    """Raise UsageError for a test that the model's context cannot hold."""
    for test in tests:
        if test.tokens + 1 > model.context_length:
            raise UsageError(
                f"{test} needs a context of {test.tokens + 1} tokens; the model is compiled for {model.context_length}",
                remedy="a larger --context, or fewer tokens",
            )


def measure(model: CompiledModel, tests: Sequence[Test], repetitions: int) -> Iterator[ModelRow]:
    """A row for each test, as it is done; each test runs once before it is timed.

    Raises UsageError as `check` does, and RequestError for a test that the model's pages cannot hold.
    """
    check(model, tests)
    engine = Engine(model, None)
    for test in tests:
        _run(engine, test, model.vocab_size)
        yield ModelRow(test, tuple(_run(engine, test, model.vocab_size) for _ in range(repetitions)))


def _run(engine: Engine, test: Test, vocab: int) -> float:
    """Tokens per second of one repetition."""
    prompt_len, count = (test.tokens, 1) if test.kind == "pp" else (1, test.tokens)
    params = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True)
    prompts = [[(7 + 31 * i + 101 * s) % vocab for i in range(prompt_len)] for s in range(test.seqs)]
    started = perf_counter()
    for prompt in prompts:
        engine.add(prompt, params)
    finished = 0
    while engine.has_work:
        for output in engine.step():
            for completion in output.outputs:
                if completion.error is not None:
                    raise completion.error
            finished += output.finished
    elapsed = perf_counter() - started
    assert finished == test.seqs
    return test.seqs * test.tokens / elapsed
