"""SamplingParams refuses what is out of range and names the field."""

from __future__ import annotations

from typing import Any

import pytest

from forge.errors import UsageError
from forge.runtime.params import SamplingParams

pytestmark = pytest.mark.null


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("n", True),
        ("n", 1.5),
        ("temperature", -0.1),
        ("temperature", 1e-7),
        ("temperature", float("nan")),
        ("temperature", "warm"),
        ("temperature", None),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_k", -2),
        ("top_k", 2.0),
        ("min_p", -0.01),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", float("inf")),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("seed", -1),
        ("seed", 2**64),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("stop", [3]),
        ("stop", 3),
        ("stop", 0),
        ("stop", {"a": 1}),
        ("stop_token_ids", 3),
        ("stop_token_ids", 0),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", ["a"]),
        ("max_tokens", 0),
        ("min_tokens", -1),
        ("min_tokens", 17),
        ("logprobs", -1),
        ("output_kind", "delta"),
    ],
)
def test_out_of_range_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=field) as caught:
        SamplingParams(**{field: value})
    assert caught.value.remedy.startswith(field)


def test_greedy_has_one_sample() -> None:
    with pytest.raises(UsageError, match="n is 2"):
        SamplingParams(n=2, temperature=0)


def test_defaults_and_edges_are_accepted() -> None:
    params = SamplingParams(top_k=-1, min_p=1, top_p=1e-9, temperature=1e-5, seed=2**64 - 1, min_tokens=16, logprobs=0)
    assert params.max_tokens == 16 and not params.penalized and not params.plain_greedy
    assert SamplingParams(max_tokens=None, min_tokens=99).min_tokens == 99


def test_stops_become_tuples() -> None:
    params = SamplingParams(stop="ab", stop_token_ids=[3])
    assert params.stop == ("ab",) and params.stop_token_ids == (3,)
    assert SamplingParams().stop == () and SamplingParams(stop=["a", "b"]).stop == ("a", "b")
