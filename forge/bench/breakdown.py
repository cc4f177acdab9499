"""Where one step's time goes: each op of a model's plan, timed on the model's own weights, beside its roofline.

The calls of one op, over all layers, run one after the other, so that each finds its weights where a step would: out
of cache. On a GPU they are the nodes of a captured graph: launching is not in their time, but in that of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forge.bench.roofline import Rate, cost_of
from forge.bench.timing import REPETITIONS, Sample, time_graph, time_host
from forge.graph.ir import Node
from forge.graph.op import Cost
from forge.lower.sizes import Sizes, padded
from forge.runtime.batch import Batch, BatchBuilder
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.scheduler import Slice

if TYPE_CHECKING:
    from forge.compiled import CompiledModel


@dataclass(frozen=True)
class Part:
    """The calls of one op in a step, together."""

    name: str
    calls: int
    launches: int
    sample: Sample
    rate: Rate

    def share_of(self, step: Breakdown) -> float:
        """Of the sum of a step's parts."""
        return self.rate.seconds / step.total.seconds

    def json(self) -> dict[str, Any]:
        shown = {"op": self.name, "calls": self.calls, "launches": self.launches}
        return shown | self.rate.json() | {"spread": self.sample.spread}


@dataclass(frozen=True)
class Breakdown:
    """A step of `tokens` tokens at the end of `context`: its parts, slowest first, and the step as a whole.

    `eager` is the step as the engine runs it, launches included; `captured` is all of its launches as one graph (None
    on a CPU).
    """

    tokens: int
    context: int
    parts: tuple[Part, ...]
    eager: Sample
    captured: Sample | None

    @property
    def total(self) -> Rate:
        """The sum of the parts."""
        rates = [p.rate for p in self.parts]
        cost = sum((r.cost for r in rates), Cost())
        return Rate(sum(r.seconds for r in rates), cost, rates[0].device)

    def json(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "context": self.context,
            "ops": [p.json() for p in self.parts],
            "sum": self.total.json(),
            "step_us": self.eager.median * 1e6,
            "captured_us": None if self.captured is None else self.captured.median * 1e6,
        }


def measure(
    model: CompiledModel, tokens: int, context: int, *, repetitions: int = REPETITIONS, by_shape: bool = False
) -> Breakdown:
    """Time the step that computes the last `tokens` of a sequence of `context` tokens. Its pages are the first ones.

    The model must not be in use. Parts are named by op, or with `by_shape` by op and operand types too.
    """
    executable = model.load()
    batch = batch_of(model, tokens, context)
    eager = time_host(_finished(model, batch), repetitions)
    sizes: Sizes = {"T": tokens, "S": 1, "R": 1}
    if model.target.kind == "gpu":
        sizes = padded(sizes, model.plan.bounds)  # as the step was that filled the inputs
    binding = executable.bind(sizes)
    pages = -(-context // model.page_size)
    groups: dict[str, list[tuple[Node, Callable[[], Any]]]] = {}
    for node, task in binding.tasks:
        groups.setdefault(_name(node, sizes, by_shape), []).append((node, task))
    on_gpu = model.device.type == "cuda"
    parts = []
    for name, tasks in groups.items():
        nodes = list(dict.fromkeys(node for node, _ in tasks))
        calls = [task for _, task in tasks]
        sample = time_graph(calls, model.on, repetitions) if on_gpu else time_host(_in_turn(calls), repetitions)
        cost = sum((cost_of(node, sizes, pages) for node in nodes), Cost())
        parts.append(Part(name, len(nodes), len(calls), sample, Rate(sample.median, cost, model.on)))
    parts.sort(key=lambda p: -p.rate.seconds)
    captured = time_graph([task for _, task in binding.tasks], model.on, repetitions) if on_gpu else None
    return Breakdown(tokens, context, tuple(parts), eager, captured)


def batch_of(model: CompiledModel, tokens: int, context: int) -> Batch:
    """The batch of the last `tokens` tokens of one sequence of `context`, which wants its last logits."""
    builder = BatchBuilder(
        max_tokens=tokens, max_seqs=1, page_size=model.page_size, context_length=model.context_length
    )
    request = Request("breakdown", [(7 + 31 * i) % model.vocab_size for i in range(context)], SamplingParams())
    request.pages = list(range(-(-context // model.page_size)))
    return builder.build([Slice(request, context - tokens, tokens)], [])


def _finished(model: CompiledModel, batch: Batch) -> Callable[[], None]:
    """One step, waited for."""

    def run() -> None:
        model.launch(batch).collect()

    return run


def _in_turn(calls: list[Callable[[], Any]]) -> Callable[[], None]:
    def run() -> None:
        for call in calls:
            call()

    return run


def _name(node: Node, sizes: Sizes, by_shape: bool) -> str:
    assert node.op is not None
    if not by_shape:
        return node.op.name
    return f"{node.op.name}({', '.join(str(v.type.bind(sizes)) for v in node.inputs if v is not None)})"
