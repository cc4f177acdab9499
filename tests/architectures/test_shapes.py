"""Parts declare the shapes of their weights: a file whose tensors or keys say otherwise is refused by name."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from architectures.tiny import described, tensors_of

from forge.errors import FileFormatError
from forge.graph.types import TensorType, tensor
from forge.models import architecture, load
from forge.models.builder import Precision
from forge.models.keys import Size, sources_of
from forge.runtime.contract import Limits

pytestmark = pytest.mark.null
LIMITS = Limits(max_tokens=8, max_seqs=2, max_logits=2, num_pages=4, page_size=4, pages_per_seq=2)


def build(name, keys, tensors):
    return described(name, keys, tensors).graph(LIMITS, Precision())


def grown(type: TensorType, axis: int) -> TensorType:
    """One more row or column; columns a block more, for they fill whole blocks."""
    shape = list(type.concrete())
    shape[axis] += type.dtype.block if axis == len(shape) - 1 else 1
    return replace(type, shape=tuple(shape))


@pytest.mark.parametrize("name", load())
def test_each_tensor_of_another_shape_is_refused_by_its_name(name):
    keys = architecture(name).tiny
    tensors = tensors_of(name, keys)
    build(name, keys, tensors)
    for changed, type in tensors.items():
        for axis in range(type.rank):
            with pytest.raises(FileFormatError) as caught:
                build(name, keys, tensors | {changed: grown(type, axis)})
            message = str(caught.value)
            assert re.search(rf"\b{re.escape(changed)}\b", message), f"{changed} along {axis}: {message}"
            assert "a file" in message
            told = message.split(" make it ")[0]
            # what makes the shape: keys of the architecture, or the table that fixes the vocabulary
            assert f"{name}." in told or "the rows of token_embd.weight" in told


@pytest.mark.parametrize("name", load())
def test_each_size_that_the_tensors_do_not_have_is_refused_by_its_key(name):
    keys = architecture(name).tiny
    tensors = tensors_of(name, keys)
    for key in ("feed_forward_length", "embedding_length", "attention.key_length"):
        wrong = 12352 if key != "attention.key_length" else 34  # even: heads turn in pairs
        given = {**keys, "attention.value_length": 34} if key == "attention.key_length" else keys
        with pytest.raises(FileFormatError, match=rf"the tensor .*{name}\.{key}"):
            build(name, {**given, key: wrong}, tensors)


def test_the_message_has_the_tensor_both_shapes_and_the_keys():
    keys = architecture("llama").tiny
    tensors = tensors_of("llama", keys) | {"blk.1.attn_q.weight": tensor("f16", 96, 64)}
    with pytest.raises(FileFormatError) as caught:
        build("llama", keys, tensors)
    assert caught.value.what == (
        "the tensor blk.1.attn_q.weight is f16[96,64]; llama.attention.head_count and llama.attention.key_length and "
        "llama.embedding_length make it [128,64]"
    )


@pytest.mark.parametrize("name", load())
def test_norms_and_biases_are_f32(name):
    keys = architecture(name).tiny
    tensors = tensors_of(name, keys)
    for vector in [n for n, t in tensors.items() if t.rank == 1]:
        with pytest.raises(FileFormatError, match=re.escape(vector)):
            build(name, keys, tensors | {vector: replace(tensors[vector], dtype=tensor("f16", 1).dtype)})


@pytest.mark.parametrize("name", load())
def test_what_is_declared_is_what_is_used(name):
    keys = architecture(name).tiny
    tensors = tensors_of(name, keys)
    leaves = {n.name: n.types[0] for n in build(name, keys, tensors).leaves("weight")}
    assert leaves == tensors


def test_a_size_remembers_its_keys_through_products_and_quotients():
    heads, width = Size(4, "heads"), Size(128, "width")
    assert (heads * 2, sources_of(heads * 2), sources_of(2 * heads)) == (8, ("heads",), ("heads",))
    assert (width // heads, sources_of(width // heads)) == (32, ("width", "heads"))
    assert sources_of(heads * (width // heads), 7, width) == ("heads", "width")
    assert (repr(heads), hash(heads), heads == 4) == ("4", hash(4), True)
    assert (heads * 0.5, 0.5 * heads, heads / 8, heads // 1.5) == (2.0, 2.0, 0.5, 2.0)
    assert type(heads * 0.5) is float
