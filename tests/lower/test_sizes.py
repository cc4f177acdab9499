"""The list of sizes: it holds every step, wastes little, and is short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.lower.sizes import padded, planned

pytestmark = pytest.mark.null
SERVER = {"T": 2048, "S": 64, "R": 64}


@st.composite
def steps(draw):
    """(bounds, sizes of a step within them): each sequence has a token at least, and rows are of tokens."""
    bounds = {"T": draw(st.integers(1, 3000))}
    bounds |= {name: draw(st.integers(1, min(300, bounds["T"]))) for name in "SR"}
    tokens = draw(st.integers(1, bounds["T"]))
    return bounds, {"T": tokens} | {name: draw(st.integers(1, min(tokens, bounds[name]))) for name in "SR"}


@given(steps())
def test_every_step_is_padded_to_a_planned_size_that_holds_it(step):
    bounds, sizes = step
    found = padded(sizes, bounds)
    assert found in planned(bounds)
    assert all(sizes[name] <= found[name] <= bounds[name] for name in sizes)
    assert padded(found, bounds) == found


@given(steps())
def test_at_most_a_quarter_more_tokens_are_computed(step):
    bounds, sizes = step
    wasted = padded(sizes, bounds)["T"] - sizes["T"]
    assert wasted <= sizes["T"] / 4 if sizes["T"] > 64 else wasted < sizes["T"]


def test_decoding_is_padded_to_powers_of_two_of_sequences():
    for seqs in range(1, 65):
        size = 1 << (seqs - 1).bit_length()
        assert padded(dict.fromkeys("TSR", seqs), SERVER) == dict.fromkeys("TSR", size)
    assert padded(dict.fromkeys("TSR", 5), {"T": 512, "S": 6, "R": 6}) == dict.fromkeys("TSR", 6), "or to all there are"


def test_a_prompt_alone_wants_one_sequence_and_one_row():
    assert padded({"T": 513, "S": 1, "R": 1}, SERVER) == {"T": 640, "S": 1, "R": 1}


def test_the_list_is_short():
    assert len(planned(SERVER)) == 99
    assert len(planned(SERVER | {"R": 2048})) == 119
    assert planned({}) == ({},)
    assert planned({"N": 100})[-1] == {"N": 100}, "a graph's own symbol has sizes too"
