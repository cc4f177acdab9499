"""Synthetic models: the shapes of real ones with random weights, for measuring speed where no real file is at hand.

    python benchmarks/synthetic.py 1b Q4_K_M /tmp/1b.gguf
    forge bench model /tmp/1b.gguf

One random tensor is made for each element type and shape, and all layers share its bytes: speed depends on how many
bytes a step reads and from where, not on what they say, and in the file each layer has its own copy. Weights are
valid blocks near 1/sqrt(width), so that activations and logits stay finite. The tokenizer is the default model's,
padded with unused tokens to the vocabulary of the shape. What such a model generates is noise.

With `--sparse` all weights are zeros that take no room on the disk: enough to look at a plan or to model a step.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType, LlamaFileType

from forge.api import DEFAULT_MODEL
from forge.gguf import GGUFFile, GGUFTensor
from forge.graph.types import DTYPES, TensorType, tensor
from forge.models import architecture
from forge.quant import random_blocks


@dataclass(frozen=True)
class Shape:
    """Hyperparameters that fix the size of a decoder. The head is not tied to the embedding."""

    architecture: str
    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_width: int
    vocab: int
    base: float
    eps: float
    context: int = 32768


# Llama-3.1-8B, Llama-3.2-1B, Qwen2.5-0.5B
SHAPES = {
    "8b": Shape("llama", 32, 4096, 14336, 32, 8, 128, 128256, 5e5, 1e-5, context=131072),
    "1b": Shape("llama", 16, 2048, 8192, 32, 8, 64, 128256, 5e5, 1e-5, context=131072),
    "0.5b": Shape("qwen2", 24, 896, 4864, 14, 2, 64, 151936, 1e6, 1e-6),
}
# The type of most weights, and that of those which llama.cpp keeps more precise.
MIXES = {"Q4_K_M": ("q4_K", "q6_K"), "Q8_0": ("q8_0", "q8_0"), "F16": ("f16", "f16")}
# Rows that do not fill blocks of 256 fall back as llama.cpp's do.
FALLBACK = {"q4_K": "q5_0", "q6_K": "q8_0"}


def synthetic(shape: Shape, mix: str, seed: int = 1) -> GGUFFile:
    """A model in memory, to be given to `forge.compile` or `write`."""
    path = Path(f"synthetic-{mix}.gguf")
    generator = torch.Generator().manual_seed(seed)
    made: dict[tuple[Any, ...], np.ndarray] = {}
    tensors: dict[str, GGUFTensor] = {}
    for name, type in tensor_types(shape, mix):
        kind = "norm" if "norm" in name else "matrix"
        key = (type, kind)
        if key not in made:
            made[key] = _norm(type, generator) if kind == "norm" else _matrix(type, generator)
        tensors[name] = GGUFTensor(name, type, made[key], path, 0)
    return GGUFFile(path, metadata(shape, mix), tensors)


def tensor_types(shape: Shape, mix: str) -> Iterator[tuple[str, TensorType]]:
    """Every tensor by name, as the architecture declares them, with the mix's rule of types.

    Q4_K_M: Q4_K, but Q6_K for the head and, in the first and last eighth of the layers and every third between, for
    attn_v and ffn_down (llama.cpp's `use_more_bits`).
    """
    usual, better = MIXES[mix]
    eighth = shape.layers // 8
    found = architecture(shape.architecture).tensors(
        hyperparameters(shape), shape.vocab, matrices="f32", optional=("output.weight",)
    )
    for name, type in found.items():
        if type.rank == 1:
            yield name, type
            continue
        place, part = name.removesuffix(".weight").rsplit(".", 1) if name.startswith("blk.") else ("", name)
        layer = int(place.removeprefix("blk.") or -1)
        outer = layer < eighth or layer >= 7 * shape.layers // 8
        precise = part in ("attn_v", "ffn_down") and (outer or (layer - eighth) % 3 == 2)
        dtype = better if precise or name == "output.weight" else usual
        fits = type.concrete()[1] % DTYPES[dtype].block == 0
        yield name, tensor(dtype if fits else FALLBACK[dtype], *type.concrete())


def hyperparameters(shape: Shape) -> dict[str, Any]:
    """The keys of the architecture's own."""
    model = {
        "block_count": shape.layers,
        "context_length": shape.context,
        "embedding_length": shape.width,
        "feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head_width,
        "attention.value_length": shape.head_width,
        "rope.dimension_count": shape.head_width,
        "attention.layer_norm_rms_epsilon": shape.eps,
        "rope.freq_base": shape.base,
    }
    return {f"{shape.architecture}.{key}": value for key, value in model.items()}


def metadata(shape: Shape, mix: str) -> dict[str, Any]:
    """The keys of a converted file, with the default model's tokenizer padded to the vocabulary."""
    with GGUFFile.open(DEFAULT_MODEL) as default:
        tokenizer = {k: v for k, v in default.metadata.items() if k.startswith("tokenizer.")}
    texts, types = list(tokenizer["tokenizer.ggml.tokens"]), list(tokenizer["tokenizer.ggml.token_type"])
    unused = 5
    tokenizer["tokenizer.ggml.tokens"] = texts + [f"[PAD{i}]" for i in range(len(texts), shape.vocab)]
    tokenizer["tokenizer.ggml.token_type"] = [*map(int, types), *[unused] * (shape.vocab - len(types))]
    return {
        "general.architecture": shape.architecture,
        "general.name": f"synthetic {shape.layers} layers of {shape.width}, {mix}",
        "general.file_type": int(LlamaFileType[f"MOSTLY_{mix}"]),
        "general.quantization_version": 2,
        **hyperparameters(shape),
        **tokenizer,
    }


def write(gguf: GGUFFile, path: Path) -> None:
    """Write a model in memory to a file."""
    writer = _described(gguf, path)
    for t in gguf.tensors.values():
        rows = t.data.reshape(*t.type.concrete()[:-1], -1)
        writer.add_tensor(t.name, rows, raw_dtype=GGMLQuantizationType[t.type.dtype.name.upper()])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_sparse(shape: Shape, mix: str, path: Path) -> None:
    """Write a model of zeros to a file that is one hole after its header."""
    writer, size = _described(GGUFFile(path, metadata(shape, mix), {}), path), 0
    for name, type in tensor_types(shape, mix):
        dtype = GGMLQuantizationType[type.dtype.name.upper()]
        writer.add_tensor_info(name, type.concrete(), np.dtype(np.float32), type.nbytes, raw_dtype=dtype)
        size += type.nbytes + -type.nbytes % writer.data_alignment
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    begin = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(begin + -begin % writer.data_alignment + size)


def _described(gguf: GGUFFile, path: Path) -> GGUFWriter:
    """A writer that has the metadata."""
    writer = GGUFWriter(path, gguf.architecture)
    for key, value in gguf.metadata.items():
        if key == "general.architecture":
            continue  # the writer has it
        adders = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        adders.get(type(value), writer.add_array)(key, value)
    return writer


def _matrix(type: TensorType, generator: torch.Generator) -> np.ndarray:
    """Random values near 1/sqrt(columns): a product with activations near 1 stays near 1."""
    return random_blocks(type, generator, rms=type.concrete()[-1] ** -0.5).numpy().reshape(-1)


def _norm(type: TensorType, generator: torch.Generator) -> np.ndarray:
    return (1 + 0.1 * torch.randn(type.concrete(), generator=generator)).numpy().view(np.uint8)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write a GGUF file of a real model's shape with random weights.")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("mix", choices=MIXES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sparse", action="store_true", help="zeros that take no room, for models of a step's time")
    args = parser.parse_args()
    started = perf_counter()
    if args.sparse:
        write_sparse(SHAPES[args.shape], args.mix, args.out)
    else:
        write(synthetic(SHAPES[args.shape], args.mix), args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e9:.2f} GB in {perf_counter() - started:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
