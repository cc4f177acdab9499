"""The Python API: `compile` a model file, `compile_graph` a graph, and `LLM` to generate.

import forge
llm = forge.LLM("model.gguf")
for output in llm.generate(["def fib(n):"], forge.SamplingParams(max_tokens=32, temperature=0)):
    print(output.outputs[0].text)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from forge.arguments import integer, listed, shown, switch, wrong
from forge.compiled import CompiledGraph, CompiledModel, GGUFSource, arguments, read_model
from forge.errors import UsageError
from forge.gguf import GGUFFile
from forge.graph.ir import Graph
from forge.lower.device import Device
from forge.lower.weights import Progress
from forge.runtime.engine import Engine
from forge.runtime.output import RequestOutput
from forge.runtime.params import RequestOutputKind, SamplingParams
from forge.runtime.service import Service
from forge.runtime.streams import AsyncStream, Stream
from forge.target import DeviceTarget
from forge.tokenizer import Tokenizer

DEFAULT_MODEL = Path(__file__).parent / "assets" / "tiny-code-Q4_K_M.gguf"

Prompt = str | Sequence[int]
Message = Mapping[str, Any]
MESSAGES = '[{"role": "user", "content": "..."}], or a list of such conversations'


def compile(
    model: str | os.PathLike[str] | GGUFFile,
    *,
    target: str | DeviceTarget | Device = "auto",
    dtype: str | None = None,
    activations: str | None = None,
    kv: str = "auto",
    context: int | None = None,
    max_tokens: int | None = None,
    max_seqs: int | None = None,
    max_logits: int | None = None,
    page_size: int = 16,
    memory: int | None = None,
    plain: bool = False,
) -> CompiledModel:
    """Compile a GGUF model for a target. A graph is compiled by `compile_graph`.

    target       "auto" (the first GPU, else the CPU), "cpu", "gpu", "gpu:1", an arch id such as "gfx1100", which need
                 not be here, or "emulated:gfx1100": AMD code run on the CPU, to check it, not for speed
    dtype        what kernels multiply: "f16" on a GPU, "bf16" (the default) or "f32" on a CPU
    activations  before quantized weights on a GPU: "a16" (the default: two int8 codes, products of integers), "a8"
                 (one int8 code: quicker, and as exact as llama.cpp) or "float"
    kv           keys and values in pages: "auto" (what kernels multiply), "f16", "bf16", or 8 bits with a scale a token
                 and head: "int8", which reads half the bytes where contexts are long, or "fp8" (e4m3), less exact
    context      tokens a sequence may reach; by default the model's own, at most 8192
    max_tokens   tokens a step, by default 512 on a CPU and 2048 on a GPU; at least max_seqs
    max_seqs     sequences a step, by default 16 on a CPU and 64 on a GPU, or max_tokens where that is less
    max_logits   positions a step whose logits may be asked for, by default one a sequence; at most max_tokens
    page_size    tokens whose keys and values lie in one page
    memory       bytes that may be used, by default what is free
    plain        to look into a defect: each op by itself, launched one by one, each step after the last; slow

    Nothing is loaded until the model first runs. Raises UsageError for an argument that is out of its range,
    FileFormatError, UnsupportedError, MemoryPlanError.
    """
    gguf = arguments.model_of(model)
    device = arguments.device_of(target)
    found = device.target
    act, quantize = arguments.dtype_of(dtype, found), arguments.activations_of(activations, found)
    budget, plain = arguments.memory_of(memory), switch("plain", plain)
    pages = arguments.kv_of(kv, act, found)
    whole = read_model(gguf)
    given = dict(context=context, max_tokens=max_tokens, max_seqs=max_seqs, max_logits=max_logits, page_size=page_size)
    sizes = arguments.sizes_of(given, whole.context, found)
    options = dict(act=act, activations=quantize, kv=pages, memory=budget, plain=plain, **vars(sizes))
    return CompiledModel(whole, GGUFSource(gguf), device, **options)


def compile_graph(
    graph: Graph,
    *,
    target: str | DeviceTarget | Device = "auto",
    weights: Mapping[str, Any] | None = None,
    activations: str = "float",
    plain: bool = False,
) -> CompiledGraph:
    """Compile an op graph for a target.

    target       as of `compile`
    weights      the tensors that the graph's weights are made of, by the names in the graph: torch tensors, or `Packed`
                 ones of block types. They may lack as long as only the plan and the kernels are looked at.
    activations  what linears with quantized weights take: "float", or on a GPU "a16" or "a8"
    plain        as of `compile`

    Raises UsageError for an argument that is out of its range, GraphError for a graph that breaks a rule,
    UnsupportedError.
    """
    whole = arguments.graph_of(graph)
    device = arguments.device_of(target)
    quantize = arguments.activations_of(activations, device.target)
    source = arguments.weights_of(weights, whole)
    return CompiledGraph(whole, device, source, activations=quantize, plain=switch("plain", plain))


class LLM:
    """A model, its tokenizer and an engine that serves requests. Safe to use from several threads.

    `generate`, `chat`, `stream` and `stream_async` may run at the same time: their requests share the engine's steps.
    Options are those of `compile`. Close it, or use it in a `with` block, to stop its thread and free the memory; one
    that is dropped goes too. In a process that was forked from its own every use raises UsageError.

    max_requests  requests that may wait and run at a time; more raise QueueFullError. None, the default, for no bound.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | GGUFFile = DEFAULT_MODEL,
        *,
        tokenizer: Tokenizer | None = None,
        progress: Progress | None = None,
        max_requests: int | None = None,
        **options: Any,
    ) -> None:
        gguf = arguments.model_of(model)
        if tokenizer is not None and not isinstance(tokenizer, Tokenizer):
            raise wrong("tokenizer", tokenizer, "a Tokenizer")
        if progress is not None and not callable(progress):
            raise wrong("progress", progress, "a function of the bytes done and the bytes in all")
        self.tokenizer = Tokenizer.from_gguf(gguf) if tokenizer is None else tokenizer
        self.model = compile(gguf, **options)
        self.model.load(progress)
        self.engine = Engine(self.model, self.tokenizer, max_requests=max_requests)
        self._service = Service(self.engine)

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def serve(self) -> None:
        """From now on let a thread step the engine for all callers, as a server wants; until then one steps only while
        requests of an event loop run."""
        self._service.serve()

    def close(self) -> None:
        """Cancel what is running, stop the engine's thread and free the device's memory. Idempotent."""
        try:
            self._service.close()
        finally:
            self.model.release()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Complete each prompt (text or token ids); results in the order of the prompts.

        Raises RequestError for a prompt that cannot run, before any is started; a request that fails while it runs has
        finish_reason "error".
        """
        many = _many(prompts)
        params = _spread(sampling_params, len(many))
        return self._service.complete(list(zip(many, params, strict=True)))

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        **template: Any,
    ) -> list[RequestOutput]:
        """Answer a conversation, or each of several, through the model's chat template.

        Messages and `template` are those of `Tokenizer.apply_chat_template`: tools=, chat_template_kwargs=, variables.
        Special tokens are those that the template writes; their texts in messages are only text.
        """
        listed = _listed(messages)
        if not listed:
            raise UsageError("chat needs at least one message", remedy=MESSAGES)
        several = [listed] if isinstance(listed[0], Mapping) else [_listed(m) for m in listed]
        prompts = [self.chat_ids(m, **template) for m in several]
        return self.generate(cast(Sequence[Prompt], prompts), sampling_params)

    def chat_ids(self, messages: Sequence[Message], **template: Any) -> list[int]:
        """A conversation as token ids, ready for the model's answer. Raises as `Tokenizer.apply_chat_template`."""
        return self.tokenizer.encode_chat(_listed(messages), **template)

    def stream(self, prompt: Prompt, sampling_params: SamplingParams | None = None) -> Stream:
        """What is new of one completion after each step. Leaving the loop early, or `close`, cancels the request."""
        return self._service.stream(prompt, delta(sampling_params))

    def stream_async(self, prompt: Prompt, sampling_params: SamplingParams | None = None) -> AsyncStream:
        """As `stream`, for an event loop; `aclose` cancels the request."""
        return self._service.stream_async(prompt, delta(sampling_params))


def delta(params: SamplingParams | None) -> SamplingParams:
    """The same parameters, reporting only what is new."""
    from dataclasses import replace

    if params is not None and not isinstance(params, SamplingParams):
        raise wrong("sampling_params", params, "a SamplingParams")
    return replace(params or SamplingParams(), output_kind=RequestOutputKind.DELTA)


def _many(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str):
        return [prompts]
    several = listed(prompts)
    if several is None:
        raise wrong("prompts", prompts, "text, token ids, or a list")
    if several and (isinstance(several[0], bool) or integer(several[0]) is not None):
        return [cast(Prompt, several)]
    return [cast(Prompt, p) for p in several]


def _listed(messages: Any) -> list[Any]:
    """The messages of a conversation, or several conversations, as a list."""
    several = listed(messages)
    if several is None:
        raise wrong("messages", messages, MESSAGES)
    return list(several)


def _spread(params: SamplingParams | Sequence[SamplingParams] | None, count: int) -> list[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * count
    several = listed(params)
    if several is None or not all(isinstance(p, SamplingParams) for p in several):
        raise UsageError(f"sampling_params={shown(params)}", remedy="a SamplingParams, or one for each prompt")
    if len(several) != count:
        raise UsageError(f"{len(several)} sampling params for {count} prompts", remedy="give one, or one for each")
    return list(several)
