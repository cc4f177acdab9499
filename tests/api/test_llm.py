"""The Python API on the default model: generation, streaming, sharing steps, errors, and what importing costs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime import fake_lm
from runtime.waiting import soon

import forge
from forge.bench.parity import evaluated_logits
from forge.errors import (
    CacheFullError,
    MemoryPlanError,
    QueueFullError,
    RequestError,
    TokenizerError,
    UnsupportedError,
    UsageError,
)
from forge.language import interpreted
from forge.runtime.uniform import Uniforms

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
GREEDY = forge.SamplingParams(temperature=0, max_tokens=24)
STACK = "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n"
PROMPTS = [STACK, "import os\n", "def fibonacci(n):", "for i in range("]


@pytest.fixture(scope="module")
def llm():
    # f32: in bf16 another number of rows rounds logits otherwise, which may tip a sampled id
    with forge.LLM(target="cpu", dtype="f32", context=256, max_seqs=8) as made:
        yield made


def text(output):
    return output.outputs[0].text


def test_generates_python_and_the_same_beside_others(llm):
    alone = [text(llm.generate(p, GREEDY)[0]) for p in PROMPTS]
    assert alone[0].startswith("        self.items.append(item)\n\n    def ")
    assert [text(o) for o in llm.generate(PROMPTS, GREEDY)] == alone
    assert llm.engine.pool.used == 0


def test_outputs_carry_what_vllm_s_users_know(llm):
    output = llm.generate(PROMPTS[0], forge.SamplingParams(temperature=0, max_tokens=5, logprobs=2))[0]
    first = output.outputs[0]
    assert output.prompt == PROMPTS[0]
    assert output.prompt_token_ids == llm.tokenizer.encode(PROMPTS[0])
    assert output.finished
    assert first.finish_reason == "length"
    assert len(first.token_ids) == len(first.logprobs) == 5
    assert first.text == llm.tokenizer.decode(first.token_ids)


def test_a_seed_repeats_whatever_runs_beside_it(llm):
    sampled = forge.SamplingParams(temperature=0.9, top_p=0.9, top_k=50, seed=7, max_tokens=20)
    alone = text(llm.generate(PROMPTS[1], sampled)[0])
    others = [forge.SamplingParams(temperature=1.1, seed=i, max_tokens=20) for i in range(3)]
    together = llm.generate([PROMPTS[0], PROMPTS[2], PROMPTS[1], PROMPTS[3]], [*others[:2], sampled, others[2]])
    assert text(together[2]) == alone
    assert text(together[0]) != alone


def test_each_token_is_what_its_own_parameters_choose_from_the_model_s_logits(llm):
    """Rows of every kind beside each other, against the ops' references and sampling in numpy."""
    plain = {"temperature": 0, "max_tokens": 10, "ignore_eos": True}
    kinds = [
        plain,
        plain | {"frequency_penalty": 1.5, "repetition_penalty": 1.3},
        plain | {"logprobs": 2},
        plain | {"temperature": 0.9, "seed": 4},
        plain,
        plain | {"temperature": 1.2, "top_p": 0.8, "seed": 9, "presence_penalty": 1.0},
    ]
    params = [forge.SamplingParams(**fields) for fields in kinds]
    prompts = [PROMPTS[i % 4] for i in range(len(kinds))]
    for output, wanted in zip(llm.generate(prompts, params), params, strict=True):
        prompt, ids = output.prompt_token_ids, output.outputs[0].token_ids
        logits = evaluated_logits(llm.model, np.array([*prompt, *ids[:-1]]))[len(prompt) - 1 :].double().numpy()
        uniforms = Uniforms(wanted.seed or 0)
        for i, token in enumerate(ids):
            row = fake_lm.penalized(logits[i], prompt, ids[:i], wanted)
            assert fake_lm.sample(row, uniforms.at(i), wanted) == token, (wanted, i)


def test_samples_of_one_prompt_share_its_pages_and_part(llm):
    """The prompt ends within a page, so each sample after the first gets a copy of that page."""
    sampled = {"temperature": 0.8, "seed": 5, "max_tokens": 24}
    three = llm.generate(STACK, forge.SamplingParams(n=3, **sampled))[0].outputs
    assert three[0].text == text(llm.generate(STACK, forge.SamplingParams(**sampled))[0])
    assert len({c.text for c in three}) == 3
    assert llm.engine.pool.used == 0


def test_streaming_gives_the_whole_in_pieces(llm):
    whole = text(llm.generate(PROMPTS[0], GREEDY)[0])
    assert "".join(text(o) for o in llm.stream(PROMPTS[0], GREEDY)) == whole

    async def gather():
        return await asyncio.gather(*(collect(p) for p in PROMPTS))

    async def collect(prompt):
        return "".join([text(o) async for o in llm.stream_async(prompt, GREEDY)])

    assert asyncio.run(gather()) == [text(o) for o in llm.generate(PROMPTS, GREEDY)]


ENDLESS = forge.SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)


def test_leaving_a_stream_frees_its_pages(llm):
    for output in llm.stream(PROMPTS[0], ENDLESS):
        assert not output.finished and llm.engine.pool.used > 0
        break
    assert soon(lambda: llm.engine.pool.used == 0)


def test_leaving_a_stream_of_an_event_loop_frees_its_pages_soon(llm):
    async def leave():
        stream = llm.stream_async(PROMPTS[0], ENDLESS)
        assert not (await anext(stream)).finished and llm.engine.pool.used > 0
        await stream.aclose()

    asyncio.run(leave())
    assert soon(lambda: llm.engine.pool.used == 0 and not llm.engine.has_work)


def test_threads_share_the_engine(llm):
    expected = [text(o) for o in llm.generate(PROMPTS, GREEDY)]
    got = [None] * 12

    def work(i):
        got[i] = text(llm.generate(PROMPTS[i % 4], GREEDY)[0])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == expected * 3


def test_what_cannot_run_is_refused_and_the_rest_goes_on(llm):
    with pytest.raises((RequestError, CacheFullError), match="256"):
        llm.generate(["def f():", [5] * 300], GREEDY)
    with pytest.raises(RequestError):
        llm.generate([[999999]], GREEDY)
    with pytest.raises(UsageError):
        llm.generate(PROMPTS, [GREEDY])
    with pytest.raises(TokenizerError, match="chat template"):
        llm.chat([{"role": "user", "content": "hi"}])
    assert text(llm.generate(PROMPTS[0], GREEDY)[0])
    assert llm.engine.pool.used == 0


def test_two_megabytes_of_prompt_are_refused_at_once(llm):
    started = time.perf_counter()
    with pytest.raises(RequestError, match=r"2,000,000 characters are at least .* context length is 256"):
        llm.generate("ab" * 1_000_000, GREEDY)
    assert time.perf_counter() - started < 1, "encoding it takes longer"


def test_a_server_s_llm_bounds_its_queue_and_steps_in_one_thread():
    with forge.LLM(target="cpu", dtype="f32", context=256, max_seqs=8, max_requests=2) as server:
        server.serve()
        with pytest.raises(QueueFullError, match="max_requests=2"):
            server.generate(PROMPTS[:3], GREEDY)
        assert text(server.generate(PROMPTS[0], GREEDY)[0]).startswith("        self.items.append(item)")
        assert server.engine.pool.used == 0


def test_a_closed_llm_says_so():
    made = forge.LLM(target="cpu", context=64, max_seqs=1)
    made.generate("x = ", forge.SamplingParams(max_tokens=2))
    made.close()
    made.close()
    with pytest.raises(RequestError, match="closed"):
        made.generate("x = ")


def test_memory_is_checked_before_loading():
    with pytest.raises(MemoryPlanError, match=r"weights .* KV pages .* free"):
        forge.compile(forge.api.DEFAULT_MODEL, target="cpu", memory=20_000_000)
    small = forge.compile(forge.api.DEFAULT_MODEL, target="cpu", memory=200_000_000, context=512)
    assert small.budget.total <= 200_000_000
    assert small.num_pages >= 32


@pytest.mark.parametrize(
    "options",
    [
        {"target": "gfx9999"},
        {"target": "cpu", "dtype": "f16"},
        {"activations": "a4"},
        {"context": 5000},
        {"max_seqs": 0},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises((UsageError, UnsupportedError)):
        forge.compile(forge.api.DEFAULT_MODEL, **{"target": "cpu"} | options)


def test_a_model_for_an_absent_gpu_can_be_looked_at():
    model = forge.compile(forge.api.DEFAULT_MODEL, target="gfx1100")
    assert "linear_" in model.plan.describe({"T": 1, "S": 1, "R": 1})
    assert "linear_q8" in str(model.graph) and "rms_norm_q8" in model.plan.describe({"T": 1, "S": 1, "R": 1})
    names = {op for op, code in model.code_objects({"T": 1, "S": 1, "R": 1})}
    assert {"linear", "paged_attention_q8", "rope_append"} <= names


def test_importing_forge_touches_nothing():
    code = "import sys, forge; print([m for m in ('torch', 'triton', 'numpy', 'gguf') if m in sys.modules])"
    here = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here, check=True)
    assert out.stdout.strip() == "[]"


def test_prompts_of_arrays_are_ids(llm):
    ids = [5, 6, 7]
    for prompts in (ids, np.array(ids), torch.tensor(ids), [np.int64(5), 6, 7], [np.array(ids)], torch.tensor([ids])):
        (output,) = llm.generate(prompts, GREEDY)
        assert output.prompt_token_ids == ids


@pytest.mark.parametrize("tokenizer", [3, 0, "gpt2"])
def test_what_is_no_tokenizer_is_refused(tokenizer):
    with pytest.raises(UsageError, match="tokenizer="):
        forge.LLM(target="cpu", tokenizer=tokenizer)


@pytest.mark.parametrize("messages", [None, 3, [3], "hello", ["hello"], {"role": "user"}, [], [[{"role": "user"}], 3]])
def test_messages_that_are_none_are_refused(llm, messages):
    with pytest.raises(UsageError, match="message") as error:
        llm.chat(messages)
    assert '"role"' in error.value.remedy


@pytest.mark.parametrize("prompts", [None, 3, b"abc", {"a": 1}, [None], [[1, "a"]], [1, "a"], [[1.5]], [b"ab"]])
def test_prompts_that_are_neither_text_nor_ids_are_refused(llm, prompts):
    with pytest.raises((UsageError, RequestError)):
        llm.generate(prompts, GREEDY)


@pytest.mark.parametrize("params", [3, "x", forge.SamplingParams, [None], {}, ["x"]])
def test_sampling_params_that_are_none_are_refused(llm, params):
    with pytest.raises(UsageError):
        llm.generate("a", params)


@pytest.mark.parametrize("bound", [0, 1.5, True, "x"])
def test_the_bound_of_requests_is_a_count(bound):
    with pytest.raises(UsageError, match="max_requests"):
        forge.LLM(target="cpu", context=64, max_requests=bound)
