"""A GGUF file as parts that a test can bend before they become bytes; it shares no code with Forge's reader.

`tiny_llama()` is a whole one-layer llama with a byte-level tokenizer in about 70 KB: written unbent, it is well formed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

import numpy as np

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_FORMAT = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
GGML_F32, GGML_F16 = 0, 1


def string(text: str | bytes, length: int | None = None) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def scalar(kind: int, value: float | str) -> bytes:
    return string(str(value)) if kind == STRING else struct.pack("<" + _FORMAT[kind], value)


def array(kind: int, values: list[bytes], count: int | None = None) -> bytes:
    return struct.pack("<IQ", kind, len(values) if count is None else count) + b"".join(values)


@dataclass
class Info:
    """One tensor info and the bytes of its data; `dims` in file order, the fastest first."""

    name: str | bytes
    dims: list[int]
    data: bytes
    kind: int = GGML_F32
    offset: int | None = None
    rank: int | None = None


@dataclass
class Draft:
    entries: dict[str | bytes, tuple[int, bytes]] = field(default_factory=dict)
    infos: list[Info] = field(default_factory=list)
    magic: bytes = b"GGUF"
    version: int = 3
    tensor_count: int | None = None
    entry_count: int | None = None
    alignment: int = 32
    extra: bytes = b""  # raw metadata entries after the others

    def set(self, key: str, kind: int, value: float | str | bytes) -> Draft:
        """A copy in which `key` has this value; bytes are taken as they are."""
        payload = value if isinstance(value, bytes) else scalar(kind, value)
        return replace(self, entries=self.entries | {key: (kind, payload)})

    def without(self, key: str) -> Draft:
        return replace(self, entries={k: v for k, v in self.entries.items() if k != key})

    def tensor(self, name: str, /, **changes: object) -> Draft:
        """A copy in which the tensor `name` is changed."""
        return replace(self, infos=[replace(t, **changes) if t.name == name else t for t in self.infos])  # type: ignore[arg-type]

    def without_tensor(self, name: str) -> Draft:
        return replace(self, infos=[t for t in self.infos if t.name != name])

    def write(self) -> bytes:
        tensor_count = len(self.infos) if self.tensor_count is None else self.tensor_count
        entry_count = len(self.entries) if self.entry_count is None else self.entry_count
        out = bytearray(self.magic + struct.pack("<IQQ", self.version, tensor_count, entry_count))
        for key, (kind, payload) in self.entries.items():
            out += string(key) + struct.pack("<I", kind) + payload
        out += self.extra
        data = bytearray()
        for t in self.infos:
            offset = len(data) if t.offset is None else t.offset
            rank = len(t.dims) if t.rank is None else t.rank
            out += string(t.name) + struct.pack("<I", rank) + struct.pack(f"<{len(t.dims)}Q", *t.dims)
            out += struct.pack("<IQ", t.kind, offset)
            data += t.data + bytes(-len(t.data) % self.alignment)
        return bytes(out) + bytes(-len(out) % self.alignment) + bytes(data)


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte: itself if printable in Latin-1, else from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(hidden)) for b in range(256)]


def tiny_llama() -> Draft:
    width, heads, kv_heads, hidden, seed = 64, 2, 1, 64, np.random.default_rng(0)
    tokens = ["<|bos|>", "<|eos|>", *byte_alphabet(), "he", "ll", "hell", "hello"]
    types = [3, 3] + [1] * (len(tokens) - 2)
    merges = ["h e", "l l", "he ll", "hell o"]
    draft = Draft()
    for key, kind, value in (
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "tiny"),
        ("llama.block_count", U32, 1),
        ("llama.context_length", U32, 64),
        ("llama.embedding_length", U32, width),
        ("llama.feed_forward_length", U32, hidden),
        ("llama.attention.head_count", U32, heads),
        ("llama.attention.head_count_kv", U32, kv_heads),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("llama.rope.freq_base", F32, 10000.0),
        ("llama.rope.dimension_count", U32, width // heads),
        ("llama.vocab_size", U32, len(tokens)),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "llama-bpe"),
        ("tokenizer.ggml.tokens", ARRAY, array(STRING, [string(t) for t in tokens])),
        ("tokenizer.ggml.token_type", ARRAY, array(I32, [struct.pack("<i", t) for t in types])),
        ("tokenizer.ggml.merges", ARRAY, array(STRING, [string(m) for m in merges])),
        ("tokenizer.ggml.bos_token_id", U32, 0),
        ("tokenizer.ggml.eos_token_id", U32, 1),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
    ):
        draft = draft.set(key, kind, value)
    head = width // heads
    shapes = {
        "token_embd": [width, len(tokens)],
        "output_norm": [width],
        "blk.0.attn_norm": [width],
        "blk.0.ffn_norm": [width],
        "blk.0.attn_q": [width, width],
        "blk.0.attn_k": [width, kv_heads * head],
        "blk.0.attn_v": [width, kv_heads * head],
        "blk.0.attn_output": [width, width],
        "blk.0.ffn_gate": [width, hidden],
        "blk.0.ffn_up": [width, hidden],
        "blk.0.ffn_down": [hidden, width],
    }
    for name, dims in shapes.items():
        norm = len(dims) == 1
        values = np.ones(dims) if norm else seed.normal(0, 0.05, dims[::-1])
        data = values.astype(np.float32 if norm else np.float16).tobytes()
        draft.infos.append(Info(f"{name}.weight", dims, data, GGML_F32 if norm else GGML_F16))
    return draft
