"""Passes on real ops: each keeps the meaning, to the last bit where it only moves things."""

from __future__ import annotations

import pytest
import torch

from forge.graph.evaluate import evaluate
from forge.graph.ir import Graph, Node
from forge.graph.op import Cost, op
from forge.graph.passes import Options
from forge.graph.passes.quantize_activations import quantize_activations
from forge.graph.passes.stack_weights import stack_weights
from forge.graph.types import tensor
from forge.graph.verify import verify
from forge.kernels import load
from forge.lower.pipeline import options

pytestmark = pytest.mark.cpu
OPS = load()


def weights(node: Node) -> torch.Tensor:
    """Rows of its own for each name, which ends in their number; one below the other where a leaf has several."""
    names = [part.name for part in node.parts]
    width = node.types[0].concrete()[1:]
    seeds = [torch.Generator().manual_seed(sum(name.encode())) for name in names]
    return torch.cat([torch.randn(int(n[1:]), *width, generator=s) for n, s in zip(names, seeds, strict=True)])


def linears(*kinds: tuple[int, bool, str]) -> Graph:
    """Linears of one x: (rows, whether it has a bias, the weight's type) each."""
    g = Graph()
    x = g.input("x", tensor("f32", 3, 32))
    for rows, bias, kind in kinds:
        b = g.weight(f"b{rows}", tensor("f32", rows)) if bias else None
        y = OPS["linear"](x, g.weight(f"w{rows}", tensor(kind, rows, 32)), b, out="f32")
        g.output(f"y{rows}", y)
    return g


@pytest.mark.parametrize(
    ("kinds", "left"),
    [
        (((8, False, "f32"), (5, False, "f32"), (16, False, "f32")), 1),
        (((8, True, "f32"), (5, True, "f32")), 1),
        (((8, True, "f32"), (5, False, "f32"), (16, True, "f32")), 2),
        (((8, False, "f32"), (5, False, "f16"), (16, False, "q8_0")), 3),
    ],
    ids=["three", "biases", "some with a bias", "types"],
)
def test_merged_linears_give_what_each_gave(kinds, left):
    g = linears(*kinds)
    merged = verify(stack_weights(g, options()))
    assert sum(n.op.name == "linear" for n in merged.calls()) == left
    x = {"x": torch.randn(3, 32, generator=torch.Generator().manual_seed(0))}
    before, after = evaluate(g, x, weights, {})[0], evaluate(merged, x, weights, {})[0]
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(after[name], before[name])


def test_what_is_quantized_is_the_operand_that_is_an_activation():
    """Though another operand is the same value."""

    @op(
        types=lambda x, w, rest: rest,
        reference=lambda x, w, rest: rest,
        cost=lambda x, w, rest: Cost(),
        roles={"x": "activation", "w": "weight"},
    )
    def product_and_rest(x, w, rest):
        """y = x w^T + rest"""

    g = Graph()
    x = g.input("x", tensor("f32", 3, 32))
    g.output("y", product_and_rest(x, g.weight("w32", tensor("q8_0", 32, 32)), x))
    quantized = quantize_activations(g, Options({}, OPS["columns"], OPS["quantize_q8"]))
    codes, _, rest = quantized.outputs["y"].node.inputs
    assert codes.node.op.name == "quantize_q8" and rest.node.name == "x"
