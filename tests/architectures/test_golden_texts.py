"""Graphs and plans as text, compared with what was written down: a change of either is seen in a review.

Write them anew with `make goldens`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from architectures.tiny import described

from forge.compiled import CompiledModel
from forge.graph.text import parse_graph
from forge.kernels import load as load_ops
from forge.language import interpreted
from forge.models import architecture, load
from forge.models.instance import RandomWeights
from forge.target import TARGETS

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
FOLDER = Path(__file__).parent / "goldens"
TARGETS_SHOWN = {"cpu": ("bf16", "float"), "gfx1100": ("f16", "a16"), "gfx942": ("f16", "a16")}


def compiled(name: str, target: str) -> CompiledModel:
    model = described(name, architecture(name).tiny)
    act, activations = TARGETS_SHOWN[target]
    # A device like those it stands for, whatever is at hand.
    here = replace(TARGETS[target], compute_units=64)
    limits = {"context": 64, "max_tokens": 32, "max_seqs": 4, "max_logits": 4, "page_size": 16, "memory": 1 << 30}
    return CompiledModel(model, RandomWeights(model.tensors), here, act=act, activations=activations, **limits)


def texts(name: str, target: str) -> Iterator[tuple[str, str]]:
    """(file name, text) of the goldens of an architecture on a target."""
    made = compiled(name, target)
    if target == "cpu":
        yield f"{name}.built.txt", str(made.built())
    yield f"{name}.{target}.graph.txt", str(made.graph)
    decode, prefill = ({"T": t, "S": 1, "R": 1} for t in (1, 32))
    yield f"{name}.{target}.plan.txt", made.plan.describe(decode) + "\n" + made.plan.describe(prefill)


@pytest.mark.parametrize("target", TARGETS_SHOWN)
@pytest.mark.parametrize("name", load())
def test_the_texts_are_as_written_down(name, target):
    for file, text in texts(name, target):
        assert text == (FOLDER / file).read_text(), "if this is meant: make goldens"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.graph.txt")), ids=lambda p: p.name)
def test_the_written_graph_parses_back(path):
    assert str(parse_graph(path.read_text(), load_ops())) == path.read_text()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, target in itertools.product(load(), TARGETS_SHOWN):
        for file, text in texts(name, target):
            (FOLDER / file).write_text(text)
