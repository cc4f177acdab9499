"""logits f32[T,V] of one sequence, at every position: a compiled model asked without an engine, or beside one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from forge.arguments import integer, shown
from forge.errors import UsageError
from forge.runtime.batch import BatchBuilder
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.runner import Runner
from forge.runtime.scheduler import Slice

if TYPE_CHECKING:
    import numpy as np
    import torch

    from forge.graph.ir import Graph
    from forge.lower.executable import Executable
    from forge.runtime.contract import Limits


class Asked(Runner, Protocol):
    """A runner whose states can be reached: a compiled model, whose file imports this one."""

    graph: Graph
    limits: Limits

    def load(self) -> Executable:
        """What holds the states, by name."""


def sequence_logits(model: Asked, ids: Any, chunk: int | None) -> torch.Tensor:
    """See `CompiledModel.logits`."""
    import torch

    tokens = _checked(model, ids)
    most = min(model.max_tokens, model.limits.max_logits)
    length = most if chunk is None else integer(chunk)
    if length is None or not 1 <= length <= most:
        raise UsageError(
            f"chunk={shown(chunk)}", remedy=f"1 to {most}, the rows of logits that a step of the model gives"
        )
    request = Request("logits", tokens, SamplingParams())
    request.pages, request.slot = list(range(-(-len(tokens) // model.page_size))), 0 if model.num_slots else -1
    builder = BatchBuilder(
        max_tokens=length, max_seqs=1, page_size=model.page_size, context_length=model.context_length
    )
    out = torch.empty(len(tokens), model.vocab_size, dtype=torch.float32)
    with model.turn, _borrowed(model, len(request.pages)):
        for start in range(0, len(tokens), length):
            piece = Slice(request, start, min(length, len(tokens) - start))
            step = model.launch(builder.build([piece], [], every_row=True))
            out[start : start + piece.length] = step.logits
    return out


@contextmanager
def _borrowed(model: Asked, pages: int) -> Iterator[None]:
    """The first pages, and the first slot cleared; afterwards they hold again what they did, kept on the host."""
    states = model.load().states
    parts = [states[leaf.name][:, :pages] for leaf in model.graph.states("pages")]
    parts += [states[leaf.name][:1] for leaf in model.graph.states("sequence")]
    kept = [part.to("cpu", copy=True) for part in parts]
    try:
        if model.num_slots:
            model.change_slots([], [0])
        yield
    finally:
        for part, before in zip(parts, kept, strict=True):
            part.copy_(before)


def _checked(model: Asked, ids: Sequence[int] | np.ndarray | torch.Tensor) -> list[int]:
    import numpy as np

    try:
        array = np.asarray(ids)
    except Exception as bad:  # rows of several lengths, a tensor of a device, an object's own
        raise UsageError(f"ids={shown(ids)} are no array: {bad}", remedy="a row of at least one int") from bad
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise UsageError(f"ids are {array.dtype}{list(array.shape)}", remedy="a row of at least one int")
    if not 0 <= array.min() <= array.max() < model.vocab_size:
        raise UsageError(
            f"there are ids from {array.min()} to {array.max()}; the model has {model.vocab_size} tokens",
            remedy=f"ids of 0 to {model.vocab_size - 1}",
        )
    if len(array) > model.context_length:
        raise UsageError(
            f"{len(array)} ids are over the context length of {model.context_length}",
            remedy="fewer ids, or a model compiled with a larger context=",
        )
    return [int(i) for i in array]
