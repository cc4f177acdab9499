"""Tokens per second of a whole model, by the tests that llama-bench made usual.

    pp N      N tokens of a prompt, of which only the last wants logits
    tg N      N tokens one by one, each sampled id fed back, after one token
    pp P+tg N a prompt of P tokens and then N steps of a token, timed as one
    @ d N     the same with N tokens in the KV cache before it, which are computed once and are not in the time
    x S       the same of S sequences at a time, each with pages of its own; tokens count together

They go through the engine as a request of a user does: scheduling, pages and sampling are in the time.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from forge.bench.captured import step_alone
from forge.bench.held import Held, raise_errors
from forge.bench.limit import Limit, Rates, limit_of
from forge.errors import UnsupportedError, UsageError
from forge.lower.sizes import decoding
from forge.runtime.engine import Engine

if TYPE_CHECKING:
    from forge.bench.timing import Sample
    from forge.compiled import CompiledModel

SETTLED = 4  # steps after which a device's graph of a step is captured, compared and in use


@dataclass(frozen=True)
class Test:
    """`prompt` tokens at once and `gen` one by one, of each of `seqs` sequences, with `depth` tokens before them."""

    prompt: int = 0
    gen: int = 0
    depth: int = 0
    seqs: int = 1

    @property
    def tokens(self) -> int:
        """Of one sequence, which count."""
        return self.prompt + self.gen

    @property
    def context(self) -> int:
        """Tokens that a sequence comes to, with the one before tg, or the one that pp gives."""
        return self.depth + self.tokens + 1

    def __str__(self) -> str:
        parts = [f"{kind}{count}" for kind, count in (("pp", self.prompt), ("tg", self.gen)) if count]
        seqs = f" x{self.seqs}" if self.seqs > 1 else ""
        return "+".join(parts) + seqs + (f" @ d{self.depth}" if self.depth else "")


@dataclass(frozen=True)
class ModelRow:
    """The repetitions of one test: tokens per second of all its sequences together, and what the device allows.

    `graph` is the time of a step of tg as a captured graph alone, at the test's mean context.
    """

    test: Test
    rates: tuple[float, ...]
    limit: Limit
    graph: Sample | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.rates)

    @property
    def stddev(self) -> float:
        return statistics.stdev(self.rates) if len(self.rates) > 1 else 0.0

    @property
    def share(self) -> float:
        """Of the limit, 0 to 1."""
        return self.mean / self.limit.tokens_per_second

    @property
    def graph_rate(self) -> float | None:
        """Tokens per second if steps were nothing but the captured graph."""
        return None if self.graph is None else self.test.seqs / self.graph.median

    def json(self) -> dict[str, Any]:
        test = self.test
        shown = {"test": str(test), "n_prompt": test.prompt, "n_gen": test.gen, "n_depth": test.depth}
        shown |= {"tokens": test.tokens, "seqs": test.seqs, "tokens_per_second": self.mean, "stddev": self.stddev}
        shown |= {"median": statistics.median(self.rates), "min": min(self.rates), "max": max(self.rates)}
        shown |= {"limit": self.limit.tokens_per_second, "share_of_limit": self.share, "bound": self.limit.bound}
        if self.graph_rate is not None:
            shown |= {"graph_tokens_per_second": self.graph_rate, "share_of_graph": self.mean / self.graph_rate}
        return shown | {"samples": list(self.rates)}


def check(model: CompiledModel, tests: Sequence[Test], *, graph: bool = False) -> None:
    """Raise UsageError for a test that the model's context or its pages cannot hold, or without graphs of launches, and
    UnsupportedError for a depth of a model whose sequences have a state that is not in pages."""
    for test in tests:
        if test.depth and model.num_slots:
            raise UnsupportedError(
                f"{test}: sequences of {model.model.name} have a state that is not in pages; they begin at no depth",
                remedy="no -d",
            )
        if test.context > model.context_length:
            raise UsageError(
                f"{test} needs a context of {test.context} tokens; the model is compiled for {model.context_length}",
                remedy="a larger --context, or fewer tokens",
            )
        if test.seqs > model.max_seqs:
            raise UsageError(
                f"{test} is of {test.seqs} sequences; the model is compiled for {model.max_seqs} at a time",
                remedy="a larger --max-seqs, or none",
            )
        need = test.seqs * -(-(test.context - 1) // model.page_size)
        if need > model.num_pages:
            raise UsageError(
                f"{test} needs {need} pages of {model.page_size} tokens; there are {model.num_pages}",
                remedy="fewer sequences, fewer tokens, or more --memory",
            )
    if graph and not model.on.captures:
        raise UsageError(f"{model.on} has no graphs of launches to compare with", remedy="a GPU, or no --graph")


def measure(
    model: CompiledModel, tests: Sequence[Test], repetitions: int, rates: Rates, *, graph: bool = False
) -> Iterator[ModelRow]:
    """A row for each test, as it is done; with `graph`, of tg the captured graph's time too.

    Each test runs before it is timed, until kernels are compiled and graphs are captured. Raises as `check` does, and
    whatever ends a request.
    """
    check(model, tests, graph=graph)
    engine = Engine(model, None)
    held = Held(engine, model.vocab_size)
    for test in tests:
        for _ in range(_warming(model, test)):
            _run(engine, held, test)
        found = tuple(_run(engine, held, test) for _ in range(repetitions))
        mean_context = test.depth + (test.gen + 1) // 2
        alone = step_alone(model, engine, held, test.seqs, mean_context) if graph and not test.prompt else None
        yield ModelRow(test, found, limit_of(model, test, rates), alone)
    held.release()


def _warming(model: CompiledModel, test: Test) -> int:
    """Runs after which each of the test's steps is what it will be."""
    rest = test.prompt * test.seqs % model.max_tokens  # the last step of prompts: captured if it is a small one
    once = rest and decoding({"T": rest})
    captured = model.on.captures and (once or test.gen)
    return -(-SETTLED // (1 if once else test.gen)) if captured else 1


def _run(engine: Engine, held: Held, test: Test) -> float:
    """Tokens per second of one repetition."""
    # A step more than tokens of tg follow a prompt, whose own step gives the first: so pp and tg do the same alone.
    outputs = test.gen + 1 if test.prompt else test.gen
    held.begin(test.depth, test.seqs, test.prompt or 1, outputs)
    started = perf_counter()
    finished = 0
    while engine.has_work:
        finished += sum(output.finished for output in raise_errors(engine.step()))
    elapsed = perf_counter() - started
    assert finished == test.seqs
    return test.seqs * test.tokens / elapsed
