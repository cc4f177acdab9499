"""The least time that a test's work needs on a device: bytes that must be read, at the rate of a copy, and products.

Of a step count the weights that it reads, in the file's bits (a table of which rows are looked up, by those rows), the
keys and values of each sequence's context, and the products of weights and of attention. A step takes as long as the
slower of the two; steps follow each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from forge.bench.roofline import cost_of, is_page_table
from forge.graph.ir import Node
from forge.graph.op import Cost
from forge.lower.rates import copied_gbps, product_tflops

if TYPE_CHECKING:
    from forge.compiled import CompiledModel


class Work(Protocol):
    """The work of a test: see `forge.bench.model.Test`."""

    @property
    def prompt(self) -> int: ...
    @property
    def gen(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def seqs(self) -> int: ...


@dataclass(frozen=True)
class Rates:
    """What a device did in this run: `gbps` read and written by a copy, `tflops` of a product of `dtype` matrices."""

    gbps: float
    tflops: float
    dtype: str

    def json(self) -> dict[str, Any]:
        return {"copy_gbps": self.gbps, "product_tflops": self.tflops, "product_of": self.dtype}

    def __str__(self) -> str:
        return f"a copy {self.gbps:,.0f} GB/s, a product of {self.dtype} matrices {self.tflops:,.2f} TFLOP/s"


@dataclass(frozen=True)
class Limit:
    """`bound` is what most of the time is for: "memory" or "compute"."""

    tokens_per_second: float
    bound: str


def rates_of(model: CompiledModel) -> Rates:
    """Measure the model's device, which should not be in use. Takes some memory, and gives it back."""
    dtype = multiplied(model)
    rates = Rates(copied_gbps(model.device), product_tflops(model.device, dtype), dtype)
    if model.device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
    return rates


def limit_of(model: CompiledModel, test: Work, rates: Rates) -> Limit:
    """Tokens per second of all sequences together, if every step took the least time that `rates` allow."""
    work, memory, compute, total = StepWork(model), 0.0, 0.0, 0.0
    for tokens, context in _steps(test, max(1, model.max_tokens // test.seqs)):
        cost = work.cost(test.seqs, tokens, context)
        read, multiplied = cost.bytes / (rates.gbps * 1e9), cost.flops / (rates.tflops * 1e12)
        memory, compute, total = memory + read, compute + multiplied, total + max(read, multiplied)
    return Limit(test.seqs * (test.prompt + test.gen) / total, "memory" if memory >= compute else "compute")


def _steps(test: Work, most: int) -> Iterator[tuple[int, int]]:
    """(tokens, context at their end) of each step, of one sequence; `most` are computed at a time."""
    for start in range(0, test.prompt, most):
        tokens = min(most, test.prompt - start)
        yield tokens, test.depth + start + tokens
    begin = test.depth + (test.prompt or 1)  # the first step of tg computes the one token before it
    for i in range(test.gen):
        yield 1, begin + i + bool(test.prompt)


class StepWork:
    """What steps of a model must read and multiply."""

    def __init__(self, model: CompiledModel) -> None:
        self._nodes = tuple(model.graph.calls())
        self._page = model.page_size
        self._known: dict[tuple[int, int], Cost] = {}

    def cost(self, seqs: int, tokens: int, context: int) -> Cost:
        """Of a step that computes the last `tokens` of a `context` in each of `seqs` sequences."""
        fixed = self._known.get((seqs, tokens)) or self._known.setdefault((seqs, tokens), self._weights(seqs, tokens))
        read = multiplied = 0
        for window, key, pair in self._attention:
            read += key * (min(context, window + tokens - 1) if window else context)
            multiplied += pair * _pairs(tokens, context, window)
        return fixed + Cost(seqs * read, seqs * multiplied)

    def _weights(self, seqs: int, tokens: int) -> Cost:
        """Weights that a step reads, and the products with them."""
        sizes = {"T": seqs * tokens, "S": seqs, "R": seqs}
        read: dict[Node, int] = {}
        flops = 0
        for node in self._nodes:
            weights = [v.node for v in node.inputs if v is not None and v.node.kind == "weight"]
            cost = cost_of(node, sizes, 1) if weights else Cost()
            flops += cost.flops if any(w.types[0].rank > 1 for w in weights) else 0
            for weight in weights:  # a call that costs fewer bytes than its weight has looks up parts of it
                read[weight] = max(read.get(weight, 0), min(weight.types[0].nbytes, cost.bytes))
        return Cost(sum(read.values()), flops)

    @cached_property
    def _attention(self) -> tuple[tuple[int, int, int], ...]:
        """(window, bytes of a key and its value, operations for a query and a key) of each call that reads pages."""
        found = []
        for node in self._nodes:
            if any(is_page_table(value) for value in node.inputs):
                one, two = (cost_of(node, {"T": 1, "S": 1, "R": 1}, pages) for pages in (1, 2))
                more = ((two.bytes - one.bytes) // self._page, (two.flops - one.flops) // self._page)
                found.append((int(node.attrs.get("window", 0)), *more))
        return tuple(found)


def _pairs(tokens: int, context: int, window: int) -> int:
    """Keys that the last `tokens` of a `context` see, each those up to itself and within the window."""
    first = context - tokens + 1
    if not window or context <= window:
        return (first + context) * tokens // 2
    return sum(min(window, seen) for seen in range(first, context + 1))


def multiplied(model: CompiledModel) -> str:
    """The element type that the model's products are of."""
    for node in model.built().calls():
        assert node.op is not None
        for name, value in zip(node.op.operands, node.inputs, strict=True):
            if node.op.roles.get(name) == "activation" and value is not None:
                return value.type.dtype.name
    raise AssertionError("a model without products")
