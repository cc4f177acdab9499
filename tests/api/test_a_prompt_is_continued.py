"""Faults 6: what `generate` is given is continued, and what it gives is whole.

The kind's bound: eos stands after no prompt, of text or chat, whatever add_eos_token says, and bos before it once;
each output_kind gives all tokens.
"""

from __future__ import annotations

import struct

import pytest
from loading.gguf_draft import BOOL, STRING, tiny_llama

import forge
from forge.language import interpreted
from forge.runtime.params import RequestOutputKind

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    path = tmp_path_factory.mktemp("eos") / "eos.gguf"
    draft = tiny_llama().set("tokenizer.ggml.add_eos_token", BOOL, struct.pack("?", True))
    path.write_bytes(draft.set("tokenizer.chat_template", STRING, TEMPLATE).write())
    with forge.LLM(path, target="cpu", dtype="f32") as made:
        yield made


def test_no_eos_stands_after_a_prompt(llm):
    bos, eos = llm.tokenizer.bos_id, llm.tokenizer.eos_id
    assert llm.tokenizer.encode("hello") == [bos, 261, eos], "as llama.cpp encodes a text"
    params = forge.SamplingParams(max_tokens=2)
    asked = [llm.generate("hello", params), llm.generate("<|bos|>hello", params)]
    asked += [llm.chat([{"role": "user", "content": "hello"}], params), [*llm.stream("hello", params)]]
    for outputs in asked:
        assert outputs[0].prompt_token_ids == [bos, 261]


@pytest.mark.parametrize("kind", RequestOutputKind)
def test_generate_gives_all_tokens_whatever_the_kind_of_output(llm, kind):
    params = {"temperature": 0, "max_tokens": 5, "ignore_eos": True, "logprobs": 1}
    (whole,) = llm.generate("he", forge.SamplingParams(**params))
    (output,) = llm.generate("he", forge.SamplingParams(**params, output_kind=kind))
    assert output.outputs == whole.outputs and len(output.outputs[0].logprobs) == 5
