"""Faults 1: an embedding with more rows than the vocabulary has tokens, as many real files have.

The kind's bound: an id of such a row may stand in prompts, be sampled, be among the likeliest and be a stop id; it
stands for no text, in outputs and for the file's own tokenizer. An id that the model lacks is refused as ever.
"""

from __future__ import annotations

import numpy as np
import pytest
from loading.gguf_draft import tiny_llama

import forge
from forge.errors import RequestError, UsageError
from forge.language import interpreted

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
TOKENS, ROWS = 262, 300


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    path = tmp_path_factory.mktemp("padded") / "padded.gguf"
    rows = np.random.default_rng(1).normal(0, 0.05, (ROWS, 64)).astype(np.float16)
    path.write_bytes(tiny_llama().tensor("token_embd.weight", dims=[64, ROWS], data=rows.tobytes()).write())
    with forge.LLM(path, target="cpu", dtype="f32") as made:
        yield made


def _outputs(llm):
    params = forge.SamplingParams(max_tokens=8, seed=3, n=3, ignore_eos=True, logprobs=ROWS, stop=["never to be met"])
    return llm.generate([[5, 299], "he"], params)


def test_they_are_sampled_and_decode_to_nothing(llm):
    samples = [sample for output in _outputs(llm) for sample in output.outputs]
    assert {sample.finish_reason for sample in samples} == {"length"}
    assert sum(token >= TOKENS for sample in samples for token in sample.token_ids) > 2
    for sample in samples:
        named = [token for token in sample.token_ids if token < TOKENS]
        assert sample.text == llm.tokenizer.decode(named) == llm.tokenizer.decode(sample.token_ids)
        for entries in sample.logprobs:
            assert len(entries) == ROWS and {entries[t].decoded_token for t in range(TOKENS, ROWS)} == {""}
            assert entries[TOKENS - 1].decoded_token == "hello"


def test_they_are_streamed_and_may_end_an_output(llm):
    first = next(s for o in _outputs(llm) for s in o.outputs if any(t >= TOKENS for t in s.token_ids[1:]))
    end = next(t for t in first.token_ids[1:] if t >= TOKENS)
    params = forge.SamplingParams(
        max_tokens=40, seed=3, ignore_eos=True, skip_special_tokens=False, stop_token_ids=range(TOKENS, ROWS)
    )
    pieces = [output.outputs[0] for output in llm.stream([5, end], params)]
    assert pieces[-1].finish_reason == "stop" and pieces[-1].stop_reason == pieces[-1].token_ids[-1] >= TOKENS
    ids = [token for piece in pieces for token in piece.token_ids]
    assert "".join(piece.text for piece in pieces) == llm.tokenizer.decode(ids, skip_special=False)


def test_what_the_model_lacks_is_refused(llm):
    with pytest.raises(RequestError, match="300"):
        llm.generate([[ROWS]])
    with pytest.raises(UsageError, match="token id 300 is out of range"):
        llm.tokenizer.decode([ROWS])
