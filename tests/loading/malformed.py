"""Malformed model files: small real ones, bent in one place each.

`malformed_files` are wrong as files or as tokenizers; `malformed_models` are well-formed GGUF whose metadata or tensors
make no model. Each is a ForgeError for whoever loads it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from loading.gguf_draft import (
    ARRAY,
    BOOL,
    F32,
    GGML_F16,
    I32,
    I64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    Info,
    array,
    string,
    tiny_llama,
)

REAL = Path(__file__).parents[2] / "forge" / "assets" / "tiny-code-Q4_K_M.gguf"
REAL_HEADER_BYTES = 280_000  # within its header, which ends after 296,000 bytes
HUGE = 2**63 - 1
TOKENS, TYPES, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"
EMBEDDING = "token_embd.weight"


def malformed_files(folder: Path) -> list[tuple[str, Path]]:
    """Write every malformed file into `folder`: (what is wrong, path)."""
    return _written(folder, [*_truncated(), *_corrupted(), *_bent_headers(), *_bent_tensors(), *_bent_tokenizers()])


def malformed_models(folder: Path) -> list[tuple[str, Path]]:
    """Files that only the model can refuse: keys or tensors missing, of the wrong type, or at odds with each other."""
    return _written(folder, list(_bent_models()))


def _written(folder: Path, files: list[tuple[str, bytes]]) -> list[tuple[str, Path]]:
    out = []
    for number, (name, raw) in enumerate(files):
        path = folder / f"{number:03}.gguf"
        path.write_bytes(raw)
        out.append((name, path))
    return out


def _truncated() -> Iterator[tuple[str, bytes]]:
    rng = random.Random(20)
    whole = tiny_llama().write()
    for size in (0, 1, 3, 4, 8, 16, 23, 24, *sorted(rng.randrange(25, len(whole) - 1) for _ in range(12))):
        yield f"tiny cut to {size} bytes", whole[:size]
    with REAL.open("rb") as file:
        real = file.read(REAL_HEADER_BYTES)
    for size in sorted(rng.randrange(100, len(real)) for _ in range(8)):
        yield f"tiny-code cut to {size} bytes", real[:size]
    yield "all zero", bytes(4096)
    yield "text", b"This is not a model.\n" * 100


def _corrupted() -> Iterator[tuple[str, bytes]]:
    """A real header whose n-th metadata or tensor length becomes absurd, at seeded places."""
    rng = random.Random(21)
    base = tiny_llama()
    whole = base.write()
    for key in rng.sample([str(k) for k in base.entries], 8):
        at = whole.index(string(key))
        length = rng.choice([HUGE, 2**64 - 1, len(whole), 2**32, 2**40])
        yield f"key {key} claims {length} bytes", whole[:at] + struct.pack("<Q", length) + whole[at + 8 :]
    for info in rng.sample(base.infos, 4):
        at = whole.index(string(info.name))
        length = rng.choice([HUGE, 2**64 - 1, len(whole), 2**32])
        yield (
            f"tensor name {info.name!r} claims {length} bytes",
            whole[:at] + struct.pack("<Q", length) + whole[at + 8 :],
        )


def _bent_headers() -> Iterator[tuple[str, bytes]]:
    base = tiny_llama()
    bends = {
        "wrong magic": replace(base, magic=b"GGML"),
        "big-endian magic": replace(base, magic=b"FUGG"),
        "big-endian version": replace(base, version=3 << 24),
        "version 0": replace(base, version=0),
        "version 1": replace(base, version=1),
        "version 4": replace(base, version=4),
        "2^63 tensors": replace(base, tensor_count=HUGE),
        "2^64-1 metadata entries": replace(base, entry_count=2**64 - 1),
        "one tensor too many": replace(base, tensor_count=len(base.infos) + 1),
        "one entry too many": replace(base, entry_count=len(base.entries) + 1),
        "one entry too few": replace(base, entry_count=len(base.entries) - 1),
        "alignment 0": base.set("general.alignment", U32, 0),
        "alignment 48": base.set("general.alignment", U32, 48),
        "alignment is a string": base.set("general.alignment", STRING, "32"),
        "alignment is a u64": base.set("general.alignment", U64, 32),
        "alignment of 2 GB": base.set("general.alignment", U32, 2**31),
        "boolean byte 7": base.set("x.flag", BOOL, b"\x07"),
        "boolean array with byte 2": base.set("x.flags", ARRAY, array(BOOL, [b"\0", b"\1", b"\2"])),
        "value type 13": base.set("x", 13, b"\0\0\0\0"),
        "value type 2^32-1": base.set("x", 2**32 - 1, b"\0\0\0\0"),
        "array of type 99": base.set("x", ARRAY, array(99, [b"\0"])),
        "string of 2^63 bytes": base.set("x", STRING, string("abc", HUGE)),
        "string that is not UTF-8": base.set("x", STRING, string(b"\xff\xfe")),
        "array of 2^63 strings": base.set("x", ARRAY, array(STRING, [string("a")], HUGE)),
        "array of 2^40 numbers": base.set("x", ARRAY, array(U32, [], 2**40)),
        "array whose size wraps 64 bits": base.set("x", ARRAY, array(U64, [], 2**61 + 1)),
        "array of 2^60 arrays": base.set("x", ARRAY, array(ARRAY, [], 2**60)),
        "array nested 5,000 deep": base.set("x", ARRAY, struct.pack("<IQ", ARRAY, 1) * 5000 + array(U8, [b"\0"])),
        "array of an empty array, 6 deep": base.set("x", ARRAY, struct.pack("<IQ", ARRAY, 1) * 6 + array(U8, [])),
        "string array with a hole": base.set("x", ARRAY, array(STRING, [string("a"), string("b", 2**50)])),
        "string array that is not UTF-8": base.set("x", ARRAY, array(STRING, [string("a"), string(b"\xc3\x28")])),
        "duplicate key": replace(
            base, extra=string("general.name") + struct.pack("<I", STRING) + string("b"), entry_count=21
        ),
        "key that is not UTF-8": replace(base, entries={b"\xffkey": (U32, struct.pack("<I", 1))} | base.entries),
        "key of 70,000 bytes": base.set("k" * 70_000, U32, 1),
        "split of 3 parts, alone": base.set("split.count", U16, 3).set("split.no", U16, 0),
        "split.count is a string": base.set("split.count", STRING, "1"),
    }
    return ((name, draft.write()) for name, draft in bends.items())


def _bent_tensors() -> Iterator[tuple[str, bytes]]:
    base = tiny_llama()
    shape = base.infos[0].dims
    bends = {
        "rank 5": base.tensor(EMBEDDING, dims=[*shape, 1, 1, 1]),
        "rank 2^32-1": base.tensor(EMBEDDING, rank=2**32 - 1),
        "dimension 0": base.tensor(EMBEDDING, dims=[0, 5]),
        "dimension 2^64-1": base.tensor(EMBEDDING, dims=[2**64 - 1, 1]),
        "shape that wraps to its size": base.tensor(EMBEDDING, dims=[2**32, 2**32, 2**32]),
        "shape larger than the file": base.tensor(EMBEDDING, dims=[shape[0], shape[1] * 1000]),
        "type 4, removed from ggml": base.tensor(EMBEDDING, kind=4),
        "type 9999": base.tensor(EMBEDDING, kind=9999),
        "rows of half a block": base.tensor(EMBEDDING, kind=12),
        "offset not aligned": base.tensor(EMBEDDING, offset=16),
        "offset behind the file": base.tensor(EMBEDDING, offset=2**30),
        "offset that wraps": base.tensor(EMBEDDING, offset=2**64 - 32),
        "two tensors at one place": base.tensor("output_norm.weight", offset=0),
        "overlap by 32 bytes": base.tensor("blk.0.attn_norm.weight", offset=len(base.infos[0].data) + 256 - 32),
        "duplicate tensor": replace(base, infos=[*base.infos, base.infos[0]]),
        "name that is not UTF-8": base.tensor(EMBEDDING, name=b"\xf0\x28.weight"),
        "name of 65 bytes": base.tensor(EMBEDDING, name="n" * 65),
    }
    return ((name, draft.write()) for name, draft in bends.items())


def _bent_tokenizers() -> Iterator[tuple[str, bytes]]:
    base = tiny_llama()

    def strings(*values: str) -> bytes:
        return array(STRING, [string(v) for v in values])

    bends = {
        "no tokenizer model": base.without("tokenizer.ggml.model"),
        "unknown tokenizer model": base.set("tokenizer.ggml.model", STRING, "abacus"),
        "unknown pre-tokenizer": base.set("tokenizer.ggml.pre", STRING, "no-such-pre"),
        "pre-tokenizer is a number": base.set("tokenizer.ggml.pre", U32, 7),
        "no tokens": base.without(TOKENS),
        "empty token list": base.set(TOKENS, ARRAY, strings()),
        "tokens are numbers": base.set(TOKENS, ARRAY, array(U32, [b"\0\0\0\0"])),
        "tokens are one string": base.set(TOKENS, STRING, "abc"),
        "token twice": base.set(TOKENS, ARRAY, strings("a", "b", "a")),
        "too few token types": base.set(TYPES, ARRAY, array(I32, [struct.pack("<i", 1)] * 3)),
        "token types are strings": base.set(TYPES, ARRAY, strings("1", "1")),
        "no merges": base.without(MERGES),
        "merge without a space": base.set(MERGES, ARRAY, strings("he")),
        "bos id past the vocabulary": base.set("tokenizer.ggml.bos_token_id", U32, 10**6),
        "eos id negative": base.set("tokenizer.ggml.eos_token_id", I32, -1),
        "eos id is a string": base.set("tokenizer.ggml.eos_token_id", STRING, "1"),
        "add_bos without a bos": base.without("tokenizer.ggml.bos_token_id"),
        "add_bos is a number": base.set("tokenizer.ggml.add_bos_token", I64, 1),
        "chat template is a number": base.set("tokenizer.chat_template", U32, 1),
        "sentencepiece without scores": base.set("tokenizer.ggml.model", STRING, "llama"),
    }
    return ((name, draft.write()) for name, draft in bends.items())


def _bent_models() -> Iterator[tuple[str, bytes]]:
    base = tiny_llama()
    bends = {f"tensor {info.name!r} missing": base.without_tensor(str(info.name)) for info in base.infos}
    for key in ("block_count", "context_length", "embedding_length", "attention.head_count"):
        bends[f"{key} missing"] = base.without(f"llama.{key}")
        bends[f"{key} is 0"] = base.set(f"llama.{key}", U32, 0)
        bends[f"{key} is a string"] = base.set(f"llama.{key}", STRING, "1")
    bends |= {
        "no architecture": base.without("general.architecture"),
        "architecture is a number": base.set("general.architecture", U32, 1),
        "unknown architecture": base.set("general.architecture", STRING, "no-such-model"),
        "epsilon missing": base.without("llama.attention.layer_norm_rms_epsilon"),
        "epsilon is a string": base.set("llama.attention.layer_norm_rms_epsilon", STRING, "1e-5"),
        "epsilon is NaN": base.set("llama.attention.layer_norm_rms_epsilon", F32, float("nan")),
        "a million layers": base.set("llama.block_count", U32, 10**6),
        "two layers, one there": base.set("llama.block_count", U32, 2),
        "heads do not divide": base.set("llama.attention.head_count", U32, 3),
        "kv heads do not divide": base.set("llama.attention.head_count_kv", U32, 5),
        "embedding of another width": base.set("llama.embedding_length", U32, 128),
        "embedding transposed": base.tensor(EMBEDDING, dims=list(reversed(base.infos[0].dims))),
        "fewer embeddings than tokens": base.tensor(EMBEDDING, dims=[64, 10]),
        "a tensor of a layer that is not": replace(
            base, infos=[*base.infos, Info("blk.7.attn_q.weight", [64, 64], bytes(8192), GGML_F16)]
        ),
    }
    return ((name, draft.write()) for name, draft in bends.items())
