"""The arguments of `forge.compile`: each is used or refused, by its type and its range."""

from __future__ import annotations

import inspect

import pytest

import forge
from forge.api import DEFAULT_MODEL
from forge.compiled import arguments
from forge.errors import UsageError
from forge.graph.ir import Graph
from forge.language import interpreted
from forge.target import TARGETS

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

WRONG = [
    ("target", 942), ("target", None), ("dtype", "f16"), ("dtype", 16), ("dtype", ""),
    ("activations", "nonsense"), ("activations", "a16"), ("activations", ""), ("activations", ["float"]),
    ("context", -5), ("context", 0), ("context", "64"), ("context", 64.0), ("context", True), ("context", 5000),
    ("max_tokens", 0), ("max_tokens", "all"), ("max_tokens", (1 << 20) + 1), ("max_seqs", True), ("max_seqs", 0),
    ("max_logits", 2.0), ("max_logits", 0), ("page_size", 2.0), ("page_size", False), ("page_size", 0),
    ("memory", 0), ("memory", -1), ("memory", "2G"), ("memory", 1e9),
    ("plain", 1), ("plain", "yes"), ("plain", None), ("kv", "int7"), ("kv", 8),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_an_argument_out_of_its_range_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        forge.compile(DEFAULT_MODEL, **{"target": "cpu", name: value})


def test_every_argument_is_tried():
    names = set(inspect.signature(forge.compile).parameters) - {"model"}
    assert names == {name for name, _ in WRONG}


@pytest.mark.parametrize("made", [forge.compile, forge.LLM])
def test_what_is_no_model_file_is_refused(made):
    with pytest.raises(UsageError, match=r"(?s)this is a Graph.*forge\.compile_graph"):
        made(Graph("g"))
    with pytest.raises(UsageError, match="model=17 is a int"):
        made(17)
    for path in ("", "a\0b"):
        with pytest.raises(UsageError, match=r"model='.*' is no path"):
            made(path)


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(UsageError, match="max_tokens=4 leaves no token for each of max_seqs=8"):
        forge.compile(DEFAULT_MODEL, target="cpu", max_tokens=4, max_seqs=8)
    with pytest.raises(UsageError, match="max_logits=9 is more than the max_tokens=8"):
        forge.compile(DEFAULT_MODEL, target="cpu", max_tokens=8, max_logits=9)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (256, 512, 16, 16, 16)),
        ({"max_tokens": 4}, (256, 4, 4, 4, 16)),
        ({"max_seqs": 600}, (256, 600, 600, 600, 16)),
        ({"context": 12, "page_size": 5, "max_logits": 40, "max_seqs": None}, (12, 512, 16, 40, 5)),
    ],
)
def test_sizes_that_are_not_named_follow_from_those_that_are(given, expected):
    assert tuple(vars(arguments.sizes_of(given, 256, TARGETS["cpu"])).values()) == expected


def test_the_default_context_is_bounded_and_a_named_one_is_not():
    assert arguments.sizes_of({}, 1 << 17, TARGETS["cpu"]).context == 8192
    assert arguments.sizes_of({"context": 1 << 17}, 1 << 17, TARGETS["cpu"]).context == 1 << 17
