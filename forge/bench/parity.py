"""How near a compiled model's logits stand to llama.cpp's, and to the graph's own f32 evaluation.

A golden (`*.golden.npz`) holds, for each prompt, its ids, llama.cpp's logits at every position, and the greedy ids
that llama.cpp continued with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from forge.compiled import CompiledModel
from forge.graph.evaluate import evaluate
from forge.graph.ir import Node
from forge.graph.types import TensorType
from forge.lower.values import constant_tensor, torch_dtype
from forge.lower.weights import raw_of
from forge.quant import to_dense
from forge.runtime.batch import Batch, BatchBuilder
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.scheduler import Slice


@dataclass(frozen=True)
class Golden:
    """One prompt of a golden: ids [P], logits f32 [P,V] and greedy ids [G]."""

    ids: np.ndarray
    logits: torch.Tensor
    greedy: np.ndarray

    @property
    def fed(self) -> np.ndarray:
        """Prompt and continuation: what the model under test is given, so that an early difference does not spread."""
        return np.concatenate([self.ids, self.greedy]).astype(np.int32)


def goldens(path: Path) -> Iterator[Golden]:
    """Every prompt of a golden file."""
    with np.load(path) as file:
        index = 0
        while f"prompt{index}_ids" in file:
            part = {k: file[f"prompt{index}_{k}"] for k in ("ids", "logits", "greedy_ids")}
            yield Golden(part["ids"], torch.from_numpy(part["logits"]).float(), part["greedy_ids"])
            index += 1


@dataclass(frozen=True)
class Chunk:
    """A piece of one sequence: tokens from `start`, of the sequence `name`."""

    name: int
    start: int
    tokens: np.ndarray


def batch_of(model: CompiledModel, chunks: Sequence[Chunk], pages: dict[int, np.ndarray]) -> Batch:
    """The batch of a step of these chunks, with logits wanted at every position."""
    total = sum(len(chunk.tokens) for chunk in chunks)
    builder = BatchBuilder(
        max_tokens=total, max_seqs=len(chunks), page_size=model.page_size, context_length=model.context_length
    )
    slices = []
    for chunk in chunks:
        before = [0] * chunk.start  # computed already
        request = Request(str(chunk.name), [*before, *chunk.tokens.tolist()], SamplingParams())
        request.pages = pages[chunk.name].tolist()
        slices.append(Slice(request, chunk.start, len(chunk.tokens)))
    return builder.build(slices, [], every_row=True)


def scattered_pages(model: CompiledModel, sequences: int, seed: int = 0) -> dict[int, np.ndarray]:
    """Pages for each of some sequences, drawn in random order from the pool."""
    per = model.limits.pages_per_seq
    order = np.random.default_rng(seed).permutation(model.num_pages)[: sequences * per]
    return {i: order[i * per : (i + 1) * per].astype(np.int32) for i in range(sequences)}


def evaluated_logits(model: CompiledModel, ids: np.ndarray) -> torch.Tensor:
    """Logits of the graph as built, before any pass, evaluated in f32 by the ops' references."""
    inputs = batch_of(model, [Chunk(0, 0, ids.astype(np.int32))], scattered_pages(model, 1)).inputs
    graph = model.built()
    states = {n.name: _state(n.types[0]) for n in graph.leaves("state")}

    def fixed(leaf: Node) -> torch.Tensor:
        if leaf.kind == "constant":
            return constant_tensor(leaf, "cpu")
        return to_dense(leaf.types[0], raw_of(leaf, model.source), torch.float32)

    outputs, _ = evaluate(graph, {k: torch.from_numpy(v) for k, v in inputs.items()}, fixed, states)
    logits: torch.Tensor = outputs["logits"]
    return logits


def _state(type: TensorType) -> torch.Tensor:
    """Zeros in f32, but pages of codes as they are."""
    return torch.zeros(type.concrete(), dtype=torch_dtype(type) if type.dtype.codes else torch.float32)


def mean_kl(reference: torch.Tensor, logits: torch.Tensor) -> float:
    """Mean over positions of KL(softmax(reference) || softmax(logits)), in float64 nats."""
    p, q = reference.double().log_softmax(-1), logits.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def disagreements(reference: torch.Tensor, logits: torch.Tensor, margin: float = 0.05) -> list[int]:
    """Positions where the argmax differs though the reference's two top logits are more than `margin` apart."""
    top = reference.topk(2, dim=-1)
    clear = top.values[:, 0] - top.values[:, 1] > margin
    return torch.nonzero(clear & (logits.argmax(-1) != top.indices[:, 0])).flatten().tolist()


@dataclass(frozen=True)
class Parity:
    """Mean KL from llama.cpp and from the f32 evaluation, and the positions where the likeliest id clearly differs:

    from the ids that llama.cpp continued with, and from the evaluation's anywhere.
    """

    from_llama_cpp: float
    from_evaluate: float
    greedy_differs: tuple[int, ...]
    exact_differs: tuple[int, ...]
    positions: int


def compare(model: CompiledModel, golden: Golden, exact: torch.Tensor | None = None) -> Parity:
    """Feed a golden's ids and compare.

    In the continuation, where the golden holds ids but no logits, an id counts if the f32 evaluation's two top logits
    are more than 0.05 apart.
    """
    exact = evaluated_logits(model, golden.fed) if exact is None else exact
    logits, prompt = model.logits(golden.fed), len(golden.ids)
    greedy = torch.from_numpy(golden.greedy).long()
    ahead, sure = logits[prompt - 1 : -1], exact[prompt - 1 : -1].topk(2, dim=-1).values
    wrong = (ahead.argmax(-1) != greedy) & (sure[:, 0] - sure[:, 1] > 0.05)
    return Parity(
        from_llama_cpp=mean_kl(golden.logits, logits[:prompt]),
        from_evaluate=mean_kl(exact, logits),
        greedy_differs=tuple(torch.nonzero(wrong).flatten().tolist()),
        exact_differs=tuple(disagreements(exact, logits)),
        positions=len(golden.fed),
    )
