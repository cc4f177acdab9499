"""The step's contract: graphs are fed what it says, and batches hold that and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import forge
from forge.graph.types import Sym
from forge.runtime.batch import Batch, BatchBuilder
from forge.runtime.contract import INPUTS, PADDING, Limits
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.scheduler import Slice

pytestmark = pytest.mark.null
LIMITS = Limits(max_tokens=12, max_seqs=3, max_logits=5, num_pages=9, page_size=4, pages_per_seq=6)


def test_types_are_bounded_by_the_limits():
    assert str(INPUTS["tokens"].type(LIMITS)) == "i32[T]" and INPUTS["tokens"].type(LIMITS).shape[0] == Sym("T", 12)
    assert str(INPUTS["page_table"].type(LIMITS)) == "i32[S,6]"
    assert INPUTS["logit_rows"].type(LIMITS).upper().concrete() == (5,)


def test_a_batch_is_the_contract_s_arrays():
    assert {f.name for f in dataclasses.fields(Batch)} - {"page_copies"} == set(INPUTS) == set(PADDING)
    request = Request("x", [5, 6, 7, 8, 9], SamplingParams())
    request.pages = [3, 1]
    builder = BatchBuilder(max_tokens=12, max_seqs=3, page_size=4, context_length=24)
    batch = builder.build([Slice(request, 2, 3)], [])
    for name, array in batch.inputs.items():
        bound = INPUTS[name].type(LIMITS).bind({"T": 3, "S": 1, "R": 1})
        assert array.shape == bound.concrete() and array.dtype == np.int32 and bound.dtype.name == "i32"
    assert batch.slots.tolist() == [14, 15, 4]
    assert builder.build([Slice(request, 2, 3)], [], every_row=True).logit_rows.tolist() == [0, 1, 2]


def test_a_model_is_fed_what_the_contract_says():
    model = forge.compile(forge.api.DEFAULT_MODEL, target="cpu", context=64, max_seqs=2)
    declared = {leaf.name: leaf.types[0] for leaf in model.built().leaves("input")}
    assert declared == {name: given.type(model.limits) for name, given in INPUTS.items() if not given.only_with}
