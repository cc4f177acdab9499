"""A compiled model without keys: a recurrence whose state is one row a sequence, and what it answers beside others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forge.compiled import CompiledModel
from forge.errors import GraphError, MemoryPlanError
from forge.graph.ir import Graph
from forge.graph.op import Cost, expect, op
from forge.graph.text import parse_graph
from forge.graph.types import StateType, dtype, tensor
from forge.kernels.argmax import argmax
from forge.kernels.take import take
from forge.language import interpreted
from forge.models.builder import Builder, Inputs, Precision
from forge.models.keys import Size
from forge.runtime import transfer
from forge.runtime.contract import Limits
from forge.runtime.engine import Engine
from forge.runtime.params import SamplingParams
from forge.target import TARGETS

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
V = 23


def _types(state, tokens, slots, start, length):
    expect(state.rank == 2 and tokens.rank == slots.rank == 1, "state [N,V], tokens [T], the others [S]")
    return state, tensor("f32", tokens.shape[0], state.shape[1])


def _reference(state, tokens, slots, start, length):
    state, y = state.clone(), torch.zeros(len(tokens), state.shape[1])
    _fade(state, y, tokens, slots, start, length)
    return state, y


def _fade(state, y, tokens, slots, start, length):
    for slot, first, count in zip(slots.tolist(), start.tolist(), length.tolist(), strict=True):
        for t in range(first, first + count):
            state[slot] *= 0.75
            state[slot, (5 * tokens[t] + 3) % V] += 1.3
            y[t] = state[slot]


@op(
    types=_types,
    reference=_reference,
    cost=lambda *_: Cost(),
    writes="state",
    results=2,
    roles={"state": "state", "tokens": "activation"},
)
def fade(state, tokens, slots, start, length):
    """state[slot] = 3/4 state[slot] + 1.3 at (5 token + 3) mod V, token by token; y[T,V] is what it is after each."""


@fade.kernel(on="cpu")
def fade_torch(site, y, state, tokens, slots, start, length):
    return lambda: _fade(state, y, tokens, slots, start, length)


class Fading:
    """What the compiler asks of a model."""

    name, vocab, config, tensors = "fading", V, None, {}

    def graph(self, limits: Limits, precision: Precision) -> Graph:
        graph = Graph(self.name)
        b = Builder(graph, None, Inputs.of(graph, limits), limits, precision, Size(V))
        state = graph.state("rnn.0", StateType((limits.max_seqs, V), dtype("f32"), "sequence"))
        kept, y = fade(state, b.inputs.tokens, b.state_slots, b.inputs.query_start, b.inputs.query_len)
        graph.update("rnn.0", kept)
        logits = take(y, b.inputs.logit_rows)
        graph.output("logits", logits)
        graph.output("ids", argmax(logits))
        return graph


def _model(memory: int | None = None, **sizes: int) -> CompiledModel:
    sizes = {"context": 64, "max_tokens": 9, "max_seqs": 4, "max_logits": 4, "page_size": 4} | sizes
    return CompiledModel(Fading(), {}, TARGETS["cpu"], act="f32", activations="float", memory=memory, **sizes)


def _alone(prompt: list[int], count: int) -> list[int]:
    state, ids = np.zeros(V, np.float32), []
    for token in prompt:
        state = state * np.float32(0.75)
        state[(5 * token + 3) % V] += np.float32(1.3)
    for _ in range(count):
        ids.append(int(state.argmax()))
        state = state * np.float32(0.75)
        state[(5 * ids[-1] + 3) % V] += np.float32(1.3)
    return ids


def test_states_of_sequences_are_cleared_forked_and_computed_anew():
    model = _model()
    assert model.num_slots == 4 and {n.name for n in model.graph.leaves("input")} >= {"tokens", "state_slots"}
    engine = Engine(model, None)
    rng = np.random.default_rng(0)
    prompts = {f"r{i}": rng.integers(0, V, rng.integers(1, 30)).tolist() for i in range(12)}
    for i, (name, prompt) in enumerate(prompts.items()):
        # A seed at a low temperature is greedy, and may have several samples.
        params = SamplingParams(temperature=1e-4, seed=i, n=1 + i % 3, max_tokens=12, ignore_eos=True)
        engine.add(prompt, params, request_id=name)
    found = {}
    for step in range(400):
        found.update((o.request_id, [c.token_ids for c in o.outputs]) for o in engine.step())
        if step % 9 == 4:
            engine.scheduler.shrink()
    assert engine.stats.preemptions > 3 and not engine.has_work
    for i, (name, prompt) in enumerate(prompts.items()):
        assert found[name] == [_alone(prompt, 12)] * (1 + i % 3)
    assert engine.slots is not None and engine.slots.used == 0


def test_slots_are_copied_at_once_and_others_cleared_by_indices_that_are_uploaded(monkeypatch):
    uploads, upload = [], transfer.upload
    monkeypatch.setattr(transfer, "upload", lambda *args: uploads.append(args) or upload(*args))
    model = _model()
    state = model.load().states["rnn.0"]
    state[:] = torch.arange(1.0, 5.0)[:, None]
    model.change_slots([(0, 1), (1, 2)], [3])
    assert state[:, 0].tolist() == [1, 1, 2, 0] and len(uploads) == 2
    model.change_slots([], [1])
    model.change_slots([(2, 0)], [])
    assert state[:, 5].tolist() == [2, 0, 2, 0] and len(uploads) == 4


def test_logits_begin_at_a_cleared_state_and_leave_others_theirs():
    model, ids = _model(), [4, 8, 8, 1, 0, 22]
    whole = model.logits(ids)
    assert whole.argmax(-1)[-1] == _alone(ids, 1)[0]
    engine = Engine(model, None)
    params = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    names = {engine.add(prompt, params): prompt for prompt in ([1, 2], [3] * 11)}
    found = {}
    while engine.has_work:
        found.update((o.request_id, o.outputs[0].token_ids) for o in engine.step())
        for chunk in (1, 3, None):
            assert torch.equal(model.logits(ids, chunk), whole)
    assert found == {name: _alone(prompt, 12) for name, prompt in names.items()}


def test_the_budget_counts_a_state_a_sequence():
    few, many = _model(max_seqs=2, max_logits=2), _model(max_seqs=8, max_logits=8)
    assert (few.budget.slots, many.budget.slots) == (2 * 4 * V, 8 * 4 * V)
    assert few.budget.pages == 0 and "sequences' state" in str(few.budget)
    with pytest.raises(MemoryPlanError, match="sequences' state"):
        _model(memory=200)


def test_the_kind_is_part_of_the_type():
    graph = _model().built()
    assert 'state "rnn.0" : state sequence f32[4,23]' in str(graph)
    assert str(parse_graph(str(graph), {"fade": fade, "take": take, "argmax": argmax})) == str(graph)
    assert [n.name for n in graph.states("sequence")] == ["rnn.0"] and not list(graph.states("pages"))
    paged = StateType((4, V), dtype("f32"))
    assert str(paged) == "state f32[4,23]" and paged != StateType((4, V), dtype("f32"), "sequence")
    with pytest.raises(GraphError, match="'page'"):
        StateType((4, V), dtype("f32"), "page")
