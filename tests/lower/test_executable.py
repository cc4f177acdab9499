"""Running a plan: views that must not copy, and steps padded to prepared sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forge.compiled import CompiledGraph
from forge.errors import GraphError
from forge.graph.ir import Graph
from forge.graph.op import Cost, op
from forge.graph.types import tensor
from forge.kernels import load
from forge.language import interpreted
from forge.lower.padding import pad
from forge.runtime.contract import PADDING
from forge.target import TARGETS

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
OPS = load()


@op(types=lambda x: x, reference=lambda x: x.clone(), cost=lambda x: Cost(), view=True)
def copying(x):
    """y = x, which says that it is a view and is none"""


def test_a_view_that_copies_is_an_error():
    for view, fits in ((lambda x: OPS["columns"](x, start=1, stop=4), True), (copying, False)):
        g = Graph()
        x = g.input("x", tensor("f32", 3, 4))
        total = OPS["add"](x, x)
        g.output("y", view(total))
        run = CompiledGraph(g, TARGETS["cpu"]).load().run
        if fits:
            assert torch.equal(run({"x": np.ones((3, 4), np.float32)})["y"], torch.full((3, 3), 2.0))
        else:
            with pytest.raises(GraphError, match="copies where it must view"):
                run({"x": np.ones((3, 4), np.float32)})


def test_padding_stores_nothing_and_belongs_to_nobody():
    given = {"tokens": np.arange(5, 10), "slots": np.arange(40, 45), "query_len": np.array([2, 2, 1])}
    given = {n: v.astype(np.int32) for n, v in given.items()}
    padded = pad(given, {"tokens": "T", "slots": "T", "query_len": "S"}, {"T": 100, "S": 3}, PADDING)
    assert padded["tokens"].tolist() == [5, 6, 7, 8, 9, 0, 0, 0]
    assert padded["slots"].tolist() == [40, 41, 42, 43, 44, -1, -1, -1]
    assert padded["query_len"].tolist() == [2, 2, 1], "three is all that fit"
    assert all(padded[n].dtype == np.int32 for n in padded)
