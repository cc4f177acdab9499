"""Flags that several verbs share: the model, how it is compiled, and how its tokens are sampled."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forge.compiled import CompiledModel
    from forge.gguf import GGUFFile
    from forge.runtime.params import SamplingParams

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SAMPLING = (
    # flag, type, default, help
    ("temperature", float, 0.0, "0 always takes the likeliest token"),
    ("top-k", int, 0, "sample among the K likeliest tokens; 0 is off"),
    ("top-p", float, 1.0, "sample among the likeliest tokens that hold this much probability"),
    ("min-p", float, 0.0, "drop tokens less likely than this share of the likeliest"),
    ("repetition-penalty", float, 1.0, "divide the logits of tokens seen before; 1 is off"),
    ("presence-penalty", float, 0.0, "subtract from the logits of tokens generated before"),
    ("frequency-penalty", float, 0.0, "the same, times how often each was generated"),
    ("seed", int, None, "make sampling repeatable"),
    ("max-tokens", int, None, "tokens to generate at most; by default 128, in a chat 1024, or what the context holds"),
)


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a GGUF file; by default the one that Forge ships")


def add_compile_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("compiling")
    group.add_argument(
        "--target", default="auto", help='"auto", "cpu", "gpu", "gpu:1", "gfx1100" or "emulated:gfx1100"'
    )
    group.add_argument("--dtype", help="what kernels multiply: bf16 or f32 on a CPU, f16 on a GPU")
    group.add_argument("--activations", help="before quantized weights on a GPU: a16, a8 or float")
    group.add_argument("--kv", default="auto", help="keys and values: auto (as --dtype), f16, bf16, int8 or fp8")
    group.add_argument("--context", type=int, metavar="N", help="tokens a sequence may reach")
    group.add_argument("--max-seqs", type=int, metavar="N", help="sequences that run at a time")
    group.add_argument("--memory", type=byte_count, metavar="BYTES", help="memory to use at most: 800M, 20G")
    group.add_argument(
        "--plain", action="store_true", help="to look into a defect: each op by itself, one by one; slow"
    )


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    for name, kind, default, text in _SAMPLING:
        shown = text if default is None else f"{text} (default {default})"
        group.add_argument(f"--{name}", type=kind, default=default, metavar="X", help=shown)
    group.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be repeated")
    group.add_argument("--logprobs", type=int, metavar="N", help="log probabilities of the N likeliest tokens, in JSON")
    group.add_argument("--ignore-eos", action="store_true", help="go on after the model's end of text")


def model_path(args: argparse.Namespace) -> Path:
    """The model named, or the default one."""
    from forge.api import DEFAULT_MODEL

    return DEFAULT_MODEL if args.model is None else Path(args.model)


def compile_options(args: argparse.Namespace, **override: Any) -> dict[str, Any]:
    """The flags as keyword arguments of `forge.compile` and `forge.LLM`."""
    names = ("target", "dtype", "activations", "kv", "context", "max_seqs", "memory", "plain")
    return {name: getattr(args, name) for name in names} | override


def sampling_params(args: argparse.Namespace) -> SamplingParams:
    """The flags as `SamplingParams`. Raises UsageError for a value out of range."""
    from forge.runtime.params import SamplingParams

    names = [name.replace("-", "_") for name, *_ in _SAMPLING] + ["stop", "logprobs", "ignore_eos"]
    return SamplingParams(**{name: getattr(args, name) for name in names})


def open_compiled(args: argparse.Namespace, gguf: GGUFFile | None = None, **override: Any) -> CompiledModel:
    """The model compiled by the flags, with nothing loaded yet."""
    import forge

    return forge.compile(gguf or model_path(args), **compile_options(args, **override))


def byte_count(text: str) -> int:
    """Bytes from text such as 800M or 1.5G, in powers of 1024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes; write 800M or 20G")
    return int(float(found[1]) * _UNITS[found[2].upper()])
