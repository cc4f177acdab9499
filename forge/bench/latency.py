"""What users wait for: many requests through `LLM.stream_async`, each timed from when it begins to its last token.

Without a rate each of `concurrency` users asks again when the last answer has ended, and a request begins when it is
asked. With a rate requests arrive at random (a Poisson process, the same one each time), and a request begins when it
arrives, also where it waits because `concurrency` others run.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

from forge.bench.held import token_ids
from forge.errors import UsageError
from forge.runtime.params import SamplingParams

if TYPE_CHECKING:
    from forge.api import LLM


@dataclass(frozen=True)
class Load:
    """`requests` of `prompt` tokens that want `gen` tokens each, `concurrency` at a time; `rate` arrive a second."""

    prompt: int
    gen: int
    requests: int
    concurrency: int
    rate: float | None = None

    @property
    def arrivals(self) -> list[float]:
        """Seconds from the start to each request; all 0 without a rate."""
        if self.rate is None:
            return [0.0] * self.requests
        chance, now, found = random.Random(0), 0.0, []
        for _ in range(self.requests):
            found.append(now)
            now += chance.expovariate(self.rate)
        return found

    def __str__(self) -> str:
        rate = "" if self.rate is None else f", {self.rate:g}/s"
        return f"pp{self.prompt}+tg{self.gen} x{self.concurrency}{rate}"


@dataclass
class Answer:
    """When a request begins and when its tokens came: (time, how many) of each output, in seconds."""

    begun: float
    came: list[tuple[float, int]] = field(default_factory=list)

    @property
    def first(self) -> float:
        """Time to the first token."""
        return self.came[0][0] - self.begun

    @property
    def whole(self) -> float:
        return self.came[-1][0] - self.begun

    @property
    def between(self) -> list[float]:
        """Time between tokens; those that come at once share it."""
        pairs = zip(self.came, self.came[1:], strict=False)
        return [(then - before) / count for (before, _), (then, count) in pairs for _ in range(count)]


@dataclass(frozen=True)
class LatencyRow:
    """The answers of one load, which took `seconds` from the first request to the last token."""

    load: Load
    seconds: float
    answers: tuple[Answer, ...]

    @property
    def tokens_per_second(self) -> float:
        """Of tokens generated."""
        return self.load.requests * self.load.gen / self.seconds

    @cached_property
    def milliseconds(self) -> dict[str, dict[str, float]]:
        """Percentiles of the time to the first token, between tokens, and to the last one."""
        samples = {
            "first": [a.first for a in self.answers],
            "between": [gap for a in self.answers for gap in a.between],
            "whole": [a.whole for a in self.answers],
        }
        return {name: _summary(values) for name, values in samples.items() if values}

    def json(self) -> dict[str, Any]:
        load = self.load
        shown = {"test": str(load), "n_prompt": load.prompt, "n_gen": load.gen, "requests": load.requests}
        shown |= {"concurrency": load.concurrency, "rate": load.rate, "seconds": self.seconds}
        shown |= {"tokens_per_second": self.tokens_per_second, "requests_per_second": load.requests / self.seconds}
        return shown | {f"{name}_ms": values for name, values in self.milliseconds.items()}


def check(llm: LLM, loads: Sequence[Load]) -> None:
    """Raise UsageError for a load of requests that the model's context cannot hold."""
    for load in loads:
        if load.prompt + load.gen > llm.model.context_length:
            raise UsageError(
                f"{load} needs a context of {load.prompt + load.gen} tokens; "
                f"the model is compiled for {llm.model.context_length}",
                remedy="a larger --context, or fewer tokens",
            )


def measure(llm: LLM, load: Load) -> LatencyRow:
    """Run a load once untimed, so that kernels are compiled and graphs captured, and then timed.

    Raises UsageError as `check` does, and the error of a request that fails.
    """
    check(llm, [load])
    asyncio.run(_run(llm, load))
    return asyncio.run(_run(llm, load))


async def _run(llm: LLM, load: Load) -> LatencyRow:
    gate, started = asyncio.Semaphore(load.concurrency), perf_counter()
    ask = (_ask(llm, load, i, gate, started + after) for i, after in enumerate(load.arrivals))
    answers = tuple(await asyncio.gather(*ask))  # if one fails, asyncio.run cancels the others
    return LatencyRow(load, max(a.came[-1][0] for a in answers) - started, answers)


async def _ask(llm: LLM, load: Load, number: int, gate: asyncio.Semaphore, arrives: float) -> Answer:
    prompt = token_ids(number, load.prompt, llm.model.vocab_size)
    params = SamplingParams(temperature=0, max_tokens=load.gen, ignore_eos=True)
    await asyncio.sleep(max(0.0, arrives - perf_counter()))
    async with gate:
        answer = Answer(perf_counter() if load.rate is None else arrives)
        async for output in llm.stream_async(prompt, params):
            completion = output.outputs[0]
            if completion.error is not None:
                raise completion.error
            if completion.token_ids:
                answer.came.append((perf_counter(), len(completion.token_ids)))
    return answer


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    """In milliseconds; percentiles lie between samples in proportion."""
    import numpy as np

    p50, p90, p99 = np.percentile(seconds, (50, 90, 99)) * 1e3
    most, mean = max(seconds) * 1e3, sum(seconds) / len(seconds) * 1e3
    return {"mean": mean, "p50": float(p50), "p90": float(p90), "p99": float(p99), "max": most}
