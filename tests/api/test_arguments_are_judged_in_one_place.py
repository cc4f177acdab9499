"""Faults 2: each argument of the public API is what it should be, or a ForgeError that names it.

The kind's bound: every argument of `compile`, `LLM` and its methods, `SamplingParams`, `Engine`, `CompiledModel.logits`
and the tokenizer, each given every value below. None raises Python's own error, none is rounded, none is ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from loading.gguf_draft import STRING, tiny_llama

import forge
from forge import arguments
from forge.errors import ForgeError, RequestError, UsageError
from forge.gguf import GGUFFile
from forge.language import interpreted
from forge.runtime.engine import Engine

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


class Strange:
    """Says that it were an integer, a number and a sequence, and has no repr."""

    def __index__(self):
        raise ZeroDivisionError

    __float__ = __repr__ = __index__

    def __call__(self, *args):
        return None


ODD: list[Any] = [
    None, True, False, 0, -1, 5, 10**400, -(10**5000), 1.5, 2.0, float("nan"), float("inf"), 1e400, 1j, Fraction(3, 2),
    Decimal(2), "", "5", "\0", "\ud800", b"ab", bytearray(b"ab"), [], [1.5], [None], ["a"], [[1]], [True], {}, {1: 2},
    {1, 2}, object, Strange(), [Strange()], [-(10**5000)], np.int64(3),
    np.float32(0.5), np.bool_(True), np.zeros(2), np.array(["f32"]),
    np.array(3), np.zeros((2, 2), int), torch.tensor(3), torch.tensor([True]), torch.tensor(1.5), lambda: 5,
]  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("arguments") / "tiny.gguf"
    template = "{{ tools }}{{ documents }}{% for m in messages %}{{ m.content }}{% endfor %}"
    made.write_bytes(tiny_llama().set("tokenizer.chat_template", STRING, template).write())
    return made


@pytest.fixture(scope="module")
def llm(path):
    with forge.LLM(path, target="cpu", dtype="f32", context=32, max_seqs=2) as made:
        yield made


def _right_or_refused(call: Callable[[Any], Any]) -> None:
    for value in ODD:
        try:
            call(value)
        except ForgeError as error:
            assert len(str(error)) < 900
        except Exception as error:
            raise AssertionError(f"{arguments.shown(value)} raises {error!r:.200}") from error


FIELDS = [field.name for field in dataclasses.fields(forge.SamplingParams)]


@pytest.mark.parametrize("field", FIELDS)
def test_fields_of_sampling_params(field, llm):
    def use(value):
        try:
            params = forge.SamplingParams(**{"max_tokens": 1} | {field: value})
        except UsageError as error:
            assert field in error.what and error.remedy.startswith(field)
        else:
            llm.generate([[5]], dataclasses.replace(params, max_tokens=1 + params.min_tokens))

    _right_or_refused(use)


@pytest.mark.parametrize(
    "name", ["target", "dtype", "activations", "kv", "context", "max_tokens", "max_seqs", "max_logits", "page_size",
             "memory", "plain"]
)  # fmt: skip
def test_options_of_compile(name, path):
    _right_or_refused(lambda value: forge.compile(path, **{"target": "cpu"} | {name: value}))


ONE = forge.SamplingParams(max_tokens=1, temperature=0)
HI = {"role": "user", "content": "hi"}
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "model": lambda llm, v: forge.compile(v, target="cpu"),
    "file": lambda llm, v: GGUFFile.open(v),
    "prompts": lambda llm, v: llm.generate(v, ONE),
    "prompt": lambda llm, v: llm.generate([v], ONE),
    "ids": lambda llm, v: llm.generate([[5, v]], ONE),
    "an id": lambda llm, v: llm.generate([v, 5], ONE),
    "params": lambda llm, v: llm.generate([[5]], v),
    "streamed": lambda llm, v: list(llm.stream(v, ONE)),
    "params of a stream": lambda llm, v: list(llm.stream([5], v)),
    "params of an async stream": lambda llm, v: llm.stream_async([5], v),
    "messages": lambda llm, v: llm.chat(v, ONE),
    "message": lambda llm, v: llm.chat([v], ONE),
    "role": lambda llm, v: llm.chat([{"role": v, "content": "a"}], ONE),
    "content": lambda llm, v: llm.chat([{"role": "user", "content": v}], ONE),
    "tools": lambda llm, v: llm.chat([HI], ONE, tools=v),
    "documents": lambda llm, v: llm.chat([HI], ONE, documents=v),
    "add_generation_prompt": lambda llm, v: llm.chat([HI], ONE, add_generation_prompt=v),
    "template": lambda llm, v: llm.chat([HI], ONE, template=v),
    "chat_template_kwargs": lambda llm, v: llm.chat([HI], ONE, chat_template_kwargs=v),
    "text": lambda llm, v: llm.tokenizer.encode(v),
    "decoded": lambda llm, v: llm.tokenizer.decode(v),
    "a decoded id": lambda llm, v: llm.tokenizer.decode([v]),
    "token_bytes": lambda llm, v: llm.tokenizer.token_bytes(v),
    "logits": lambda llm, v: llm.model.logits(v),
    "an id of logits": lambda llm, v: llm.model.logits([v]),
    "chunk": lambda llm, v: llm.model.logits([5], v),
    "max_batched_tokens": lambda llm, v: Engine(llm.model, llm.tokenizer, max_batched_tokens=v),
    "max_seqs": lambda llm, v: Engine(llm.model, llm.tokenizer, max_seqs=v),
    "max_requests": lambda llm, v: Engine(llm.model, llm.tokenizer, max_requests=v),
    "request_id": lambda llm, v: Engine(llm.model, llm.tokenizer).add([5], ONE, request_id=v),
    "prompt_text": lambda llm, v: Engine(llm.model, llm.tokenizer).add([5], ONE, prompt_text=v),
    "params of a request": lambda llm, v: Engine(llm.model, llm.tokenizer).add([5], v),
    "cancel": lambda llm, v: Engine(llm.model, llm.tokenizer).cancel(v),
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_of_everything_else(name, llm):
    _right_or_refused(lambda value: CALLS[name](llm, value))
    (after,) = llm.generate([[5]], ONE)
    assert after.finished and after.outputs[0].error is None and llm.engine.pool.used == 0


@pytest.mark.parametrize("name", ["tokenizer", "progress", "max_requests"])
def test_arguments_of_an_llm(name, path):
    for value in ODD:
        if value is not None and not callable(value) and arguments.integer(value) is None:
            with pytest.raises(UsageError, match=name):
                forge.LLM(path, target="cpu", **{name: value})


NO_IDS = [[1.5, 2.7], [Fraction(3, 2)], [2.0], [True, False], {1: 2}, {1, 2}, bytearray(b"ab"), b"ab", memoryview(b"a")]
NO_IDS += [[np.float32(1)], np.array([1.0]), np.array([True]), torch.tensor([1.0]), torch.tensor([[1]]), [Decimal(1)]]


@pytest.mark.parametrize("ids", NO_IDS, ids=lambda given: repr(given).split(" at ")[0])
def test_what_is_no_integer_is_no_id(ids, llm):
    for params in (ONE, dataclasses.replace(ONE, repetition_penalty=1.2)):
        with pytest.raises(RequestError, match="is neither text nor token ids"):
            llm.generate([ids], params)


@pytest.mark.parametrize(
    "ids", [[5, 6], (5, 6), range(5, 7), np.array([5, 6], np.uint8), torch.tensor([5, 6])], ids=str
)
def test_integers_of_any_kind_are_ids(ids, llm):
    for prompts in (ids, [ids], [[np.int32(5), 6]], [[torch.tensor(5), 6]]):
        assert llm.generate(prompts, ONE)[0].prompt_token_ids == [5, 6]


def test_texts_in_an_array_are_prompts(llm):
    assert [o.prompt for o in llm.generate(np.array(["a", "he"]), ONE)] == ["a", "he"]


def test_numbers_of_numpy_are_numbers():
    given = forge.SamplingParams(temperature=np.float32(0.5), max_tokens=np.int64(7), stop_token_ids=np.array([3, 4]))
    assert given == forge.SamplingParams(temperature=0.5, max_tokens=7, stop_token_ids=[3, 4])
    assert type(given.temperature) is float and type(given.max_tokens) is int
