"""The Python API: `compile` a model file or a graph, and `LLM` to generate with it.

import forge
llm = forge.LLM("model.gguf")
for output in llm.generate(["def fib(n):"], forge.SamplingParams(max_tokens=32, temperature=0)):
    print(output.outputs[0].text)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from forge.compiled import CompiledGraph, CompiledModel, GGUFSource, read_config
from forge.errors import UsageError
from forge.gguf import GGUFFile
from forge.graph.ir import Graph
from forge.lower.weights import Progress
from forge.runtime.engine import Engine
from forge.runtime.output import RequestOutput
from forge.runtime.params import RequestOutputKind, SamplingParams
from forge.runtime.service import Service
from forge.target import DeviceTarget
from forge.target import target as find_target
from forge.tokenizer import Tokenizer

DEFAULT_MODEL = Path(__file__).parent / "assets" / "tiny-code-Q4_K_M.gguf"
DEFAULT_CONTEXT = 8192  # tokens, where the model allows more and the caller names none

Prompt = str | Sequence[int]
Message = Mapping[str, Any]


def compile(
    model: str | Path | GGUFFile | Graph,
    *,
    target: str | DeviceTarget = "auto",
    dtype: str | None = None,
    activations: str | None = None,
    context: int | None = None,
    max_tokens: int | None = None,
    max_seqs: int | None = None,
    max_logits: int | None = None,
    page_size: int = 16,
    memory: int | None = None,
    emulate: bool = False,
) -> CompiledModel | CompiledGraph:
    """Compile a GGUF model, or an op graph, for a target.

    target       "auto" (the GPU at hand, else the CPU), "cpu", "gpu", or an arch id such as "gfx1100"
    dtype        what kernels multiply: "f16" on a GPU, "bf16" (the default) or "f32" on a CPU
    activations  before quantized weights on a GPU: "a16" (the default: two int8 codes, products of integers), "a8"
                 (one int8 code: quicker, and as exact as llama.cpp) or "float"
    context      tokens a sequence may reach; by default the model's own, at most 8192
    max_tokens   tokens a step; max_seqs: sequences a step; max_logits: positions a step whose logits may be asked for
                 (by default one a sequence)
    memory       bytes that may be used, of what is free
    emulate      run the code of an AMD target on the CPU, instruction by instruction: to check it, not for speed

    Nothing is loaded until the model first runs. Raises FileFormatError, UnsupportedError, MemoryPlanError.
    """
    found = find_target(target)
    if emulate and found.backend != "hip":
        raise UsageError(f"emulate=True on {found}", remedy="target= an AMD arch id, such as gfx1100")
    if emulate:
        from forge.amdgcn.emulate import require

        require(found)
    if isinstance(model, Graph):
        return CompiledGraph(model, found, emulate=emulate)
    gguf = model if isinstance(model, GGUFFile) else GGUFFile.open(model)
    config = read_config(gguf)
    cpu = found.kind == "cpu"
    chosen = dtype or ("bf16" if cpu else "f16")
    if chosen not in (("bf16", "f32") if cpu else ("f16",)):
        raise UsageError(f"dtype={chosen!r} on {found}", remedy="bf16 or f32" if cpu else "f16")
    quantize = activations or ("float" if cpu else "a16")
    if quantize not in (("float",) if cpu else ("float", "a8", "a16")):
        raise UsageError(f"activations={quantize!r} on {found}", remedy="float" if cpu else "a16, a8 or float")
    length = min(config.context, DEFAULT_CONTEXT) if context is None else context
    if not 1 <= length <= config.context:
        raise UsageError(f"context={length}; the model was made for {config.context} tokens")
    counts = {"max_tokens": max_tokens, "max_seqs": max_seqs, "max_logits": max_logits, "page_size": page_size}
    for name, value in counts.items():
        if value is not None and not 1 <= value <= 1 << 20:
            raise UsageError(f"{name}={value} is out of range", remedy="a count of at least 1")
    seqs = max_seqs or (16 if cpu else 64)
    return CompiledModel(
        config,
        GGUFSource(gguf),
        found,
        act=chosen,
        activations=quantize,
        context=length,
        max_tokens=max(max_tokens or (512 if cpu else 2048), seqs),
        max_seqs=seqs,
        max_logits=max_logits or seqs,
        page_size=page_size,
        memory=memory,
        emulate=emulate,
    )


class LLM:
    """A model, its tokenizer and an engine that serves requests. Safe to use from several threads.

    `generate`, `chat`, `stream` and `stream_async` may run at the same time: their requests share the engine's steps.
    Options are those of `compile`. Close it, or use it in a `with` block, to stop its thread and free the device.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        tokenizer: Tokenizer | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        gguf = GGUFFile.open(model)
        self.tokenizer = tokenizer or Tokenizer.from_gguf(gguf)
        self.model = cast(CompiledModel, compile(gguf, **options))
        self.model.load(progress)
        self.engine = Engine(self.model, self.tokenizer, argmax=self.model.argmax)
        self._service = Service(self.engine)

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is running and stop the engine's thread. Idempotent."""
        self._service.close()

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
        """Answer a conversation, or each of several, through the model's chat template."""
        if not messages:
            raise UsageError("chat needs at least one message")
        several = messages if not isinstance(messages[0], Mapping) else [messages]
        prompts = [self.chat_ids(cast(Sequence[Message], m), **template) for m in several]
        return self.generate(cast(Sequence[Prompt], prompts), sampling_params)

    def chat_ids(self, messages: Sequence[Message], **template: Any) -> list[int]:
        """A conversation as token ids, ready for the model's answer. Raises TokenizerError without a template."""
        text = self.tokenizer.apply_chat_template(list(messages), **template)
        return self.tokenizer.encode_prompt(text)

    def stream(self, prompt: Prompt, sampling_params: SamplingParams | None = None) -> Iterator[RequestOutput]:
        """What is new of one completion after each step. Leaving the loop early cancels the request."""
        return self._service.stream(prompt, delta(sampling_params))

    def stream_async(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None
    ) -> AsyncIterator[RequestOutput]:
        """As `stream`, for an event loop."""
        return self._service.stream_async(prompt, delta(sampling_params))


def delta(params: SamplingParams | None) -> SamplingParams:
    """The same parameters, reporting only what is new."""
    from dataclasses import replace

    return replace(params or SamplingParams(), output_kind=RequestOutputKind.DELTA)


def _many(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
        return [cast(Prompt, prompts)]
    return [cast(Prompt, p) for p in prompts]


def _spread(params: SamplingParams | Sequence[SamplingParams] | None, count: int) -> list[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * count
    if len(params) != count:
        raise UsageError(f"{len(params)} sampling params for {count} prompts", remedy="give one, or one for each")
    return list(params)
