"""A decode step's captured graph alone: what the device takes, without the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forge.bench.held import Held, token_ids
from forge.bench.timing import Sample, time_graph
from forge.lower.sizes import padded
from forge.runtime.batch import BatchBuilder
from forge.runtime.engine import Engine
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.scheduler import Slice

if TYPE_CHECKING:
    from forge.compiled import CompiledModel
    from forge.runtime.batch import Batch


def step_alone(model: CompiledModel, engine: Engine, held: Held, seqs: int, context: int) -> Sample:
    """Time the graph of a step of one token at the end of `context`, of sequences that are held before it.

    The sampled ids' copy to the host is not in it. The device must have graphs of launches, the engine nothing to do.
    """
    requests = []
    for sequence in range(seqs):
        ids = token_ids(sequence, context, model.vocab_size)
        requests.append(Request("alone", ids, SamplingParams(temperature=0)))
        requests[-1].pages = held.borrow(sequence, context)
    try:
        model.launch(_batch(model, requests, context)).collect()
        binding = model.load().bind(padded({"T": seqs, "S": seqs, "R": seqs}, model.plan.bounds))
        return time_graph(binding.calls, model.on)
    finally:
        for sequence, request in enumerate(requests):
            held.give_back(sequence, request.pages)


def _batch(model: CompiledModel, requests: list[Request], context: int) -> Batch:
    """The last token of each."""
    builder = BatchBuilder(
        max_tokens=len(requests), max_seqs=len(requests), page_size=model.page_size, context_length=model.context_length
    )
    return builder.build([Slice(request, context - 1, 1) for request in requests], [])
