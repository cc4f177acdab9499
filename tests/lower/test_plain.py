"""Plain: each op by itself, launched one by one. What is fused and replayed is left out, and nothing else."""

from __future__ import annotations

import pytest
import torch
from lower.capturing import Capturing

import forge
from forge.api import DEFAULT_MODEL
from forge.cli import main
from forge.graph.ir import Graph
from forge.graph.types import tensor
from forge.kernels.add import add
from forge.kernels.rms_norm import rms_norm
from forge.language import interpreted

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
ROOM = {"memory": 4 << 30, "context": 64}


def fused(model, sizes):
    return {n.op.name for n in model.plan.schedule(sizes).graph.calls() if n.op.equals}


@pytest.mark.parametrize("target", ["cpu", "sm_90", "gfx942", "gfx1100"])
def test_no_call_is_fused_at_any_size(target):
    usual, plain = (forge.compile(DEFAULT_MODEL, target=target, plain=on, **ROOM) for on in (False, True))
    for sizes in (plain.plan.sizes[0], plain.plan.sizes[-1]):
        assert fused(usual, sizes) and not fused(plain, sizes)
    assert plain.vocab_size == usual.vocab_size and plain.num_pages == usual.num_pages


def test_no_step_is_captured_or_launched_ahead_and_no_memory_kept_for_graphs():
    device = Capturing()
    usual, plain = (forge.compile(DEFAULT_MODEL, target=device, plain=on, **ROOM) for on in (False, True))
    assert (usual.goes_ahead, plain.goes_ahead) == (True, False)
    assert usual.budget.graphs > 0 and plain.budget.graphs == 0
    assert usual.load().replays is not None and plain.load().replays is None


def test_a_graph_gives_the_same_plain():
    graph = Graph("sum")
    x, y = (graph.input(name, tensor("f32", 3, 32)) for name in "xy")
    total = add(x, y)
    graph.output("norm", rms_norm(total, graph.constant("w", tensor("f32", 32), [0.5, 2.0] * 16), eps=1e-5, out="f32"))
    graph.output("total", total)
    given = {name: torch.randn(3, 32) for name in "xy"}
    usual, plain = (forge.compile_graph(graph, target="cpu", plain=on) for on in (False, True))
    assert fused(usual, {}) == {"add_rms_norm"} and not fused(plain, {})
    for name, want in usual.run(given).items():
        assert torch.allclose(plain.run(given)[name], want, rtol=1e-6)


def test_the_command_line_takes_it(capsys):
    shown = []
    for flags in ([], ["--plain"]):
        assert main(["dump", "--plan", "--target", "gfx942", "--memory", "4G", *flags]) == 0
        shown.append(capsys.readouterr().out)
    assert "add_rms_norm" in shown[0] and "add_rms_norm" not in shown[1]
