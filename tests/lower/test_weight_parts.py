"""Weights made of parts of a file's tensors: the same bytes as the tensors they stand for."""

from __future__ import annotations

import pytest
import torch

from forge.errors import FileFormatError, GraphError
from forge.graph.ir import Graph
from forge.graph.leaves import Part
from forge.graph.types import TensorType, tensor
from forge.lower.weights import raw_of
from forge.models.architecture import check_tensors
from forge.quant import random_blocks, to_dense

pytestmark = pytest.mark.cpu


class Tensors:
    """A source of random tensors of the given types."""

    def __init__(self, **types: TensorType) -> None:
        self.types = types
        made = {n: random_blocks(t, torch.Generator().manual_seed(len(n))) for n, t in types.items()}
        self._raw = {n: raw.reshape(-1, raw.shape[-1]) for n, raw in made.items()}

    def raw(self, name: str) -> torch.Tensor:
        return self._raw[name]

    def type_of(self, name: str) -> TensorType:
        return self.types[name]

    def dense(self, name: str) -> torch.Tensor:
        return to_dense(self.types[name], self._raw[name], torch.float32)

    def weight(self, parts, type: TensorType, axis: int = 0) -> torch.Tensor:
        """The values of a weight leaf, as a plan loads them."""
        graph = Graph()
        leaf = graph.weight(parts, type, axis=axis).node
        graph.output("w", leaf.outputs[0])
        check_tensors(graph, {p.name: self.types[p.name] for p in leaf.parts}, "test")
        return to_dense(type, raw_of(leaf, self), torch.float32)


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_K"])
def test_a_fused_projection_comes_apart_into_its_rows(kind):
    source = Tensors(qkv=tensor(kind, 96, 256))
    whole, at = source.dense("qkv"), 0
    for rows in (64, 16, 16):
        part = source.weight(Part("qkv", 0, at, at + rows), tensor(kind, rows, 256))
        assert torch.equal(part, whole[at : at + rows])
        at += rows


def test_columns_for_one_device_of_two():
    source = Tensors(down=tensor("q4_K", 5, 1024))
    halves = [source.weight(Part("down", 1, i, i + 512), tensor("q4_K", 5, 512)) for i in (0, 512)]
    assert torch.equal(torch.cat(halves, 1), source.dense("down"))


def test_rows_and_columns_stack():
    source = Tensors(gate=tensor("q8_0", 6, 64), up=tensor("q8_0", 6, 64), bias=tensor("f32", 6))
    both = source.weight(("gate", "up"), tensor("q8_0", 12, 64))
    assert torch.equal(both, torch.cat([source.dense("gate"), source.dense("up")]))
    side = source.weight(("gate", "up"), tensor("q8_0", 6, 128), axis=1)
    assert torch.equal(side, torch.cat([source.dense("gate"), source.dense("up")], 1))
    twice = source.weight(("bias", Part("bias", 0, 2, 4)), tensor("f32", 8))
    assert torch.equal(twice, torch.cat([source.dense("bias"), source.dense("bias")[2:4]]))


def test_experts_stack_their_rows_and_come_apart():
    source = Tensors(gate=tensor("q5_0", 4, 6, 64), up=tensor("q5_0", 4, 6, 64))
    both = source.weight(("gate", "up"), tensor("q5_0", 4, 12, 64), axis=1)
    assert torch.equal(both, torch.cat([source.dense("gate"), source.dense("up")], 1))
    assert torch.equal(source.weight(Part("up", 0, 1, 3), tensor("q5_0", 2, 6, 64)), source.dense("up")[1:3])
    assert torch.equal(source.weight(Part("up", 1, 4, 6), tensor("q5_0", 4, 2, 64)), source.dense("up")[:, 4:])


@pytest.mark.parametrize(
    ("parts", "type", "says"),
    [
        (Part("w", 0, 8, 20), tensor("q8_0", 12, 64), "not within"),
        (Part("w", 2, 0, 4), tensor("q8_0", 16, 64), "not within"),
        (("w", "v"), tensor("q8_0", 32, 64), "cannot stand beside"),
        (Part("w", 0, 0, 8), tensor("q8_0", 16, 64), "make it"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(parts, type, says):
    source = Tensors(w=tensor("q8_0", 16, 64), v=tensor("q8_0", 16, 96))
    with pytest.raises(FileFormatError, match=says) as caught:
        source.weight(parts, type)
    assert "w" in str(caught.value) and "q8_0" in str(caught.value)


def test_a_part_does_not_cut_through_a_block():
    source = Tensors(w=tensor("q8_0", 16, 64))
    with pytest.raises(GraphError, match="cuts through blocks of 32"):
        source.weight(Part("w", 1, 16, 48), tensor("q8_0", 16, 32))


def test_a_part_is_no_empty_or_negative_range():
    for start, stop in ((-1, 2), (3, 3), (4, 2)):
        with pytest.raises(GraphError, match="a part of w"):
            Part("w", 0, start, stop)
