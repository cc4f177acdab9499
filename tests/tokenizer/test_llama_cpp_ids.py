"""The ids that llama.cpp gives, for the splits of common models and for SentencePiece; test_pre_types.py has the rest.

`data/llama_cpp_ids.json` was written by llama.cpp's own tokenizer (the source vendored by llama-cpp-python 0.3.36):
for each row [text, add_special, parse_special, ids]. Byte-level rows use the shipped model's vocabulary under another
`tokenizer.ggml.pre`. The texts are hand-written hard ones and random mixtures of scripts, spaces and special tokens.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizer.vocabularies import DATA, MODEL, of_metadata, sentencepiece_metadata, tiny_code

from forge.gguf import GGUFFile
from forge.tokenizer import Tokenizer

pytestmark = pytest.mark.null

ROWS = json.loads((DATA / "llama_cpp_ids.json").read_text(encoding="utf-8"))
GOLDENS = sorted((MODEL.parents[2] / "tests" / "models").glob("*.npz"))


@pytest.mark.parametrize("name", ROWS)
def test_equals_llama_cpp(name):
    tokenizer = of_metadata(sentencepiece_metadata()) if name == "sentencepiece" else tiny_code(name)
    wrong = [
        (text, add, parse, tokenizer.encode(text, add_special=add, parse_special=parse), ids)
        for text, add, parse, ids in ROWS[name]
        if tokenizer.encode(text, add_special=add, parse_special=parse) != ids
    ]
    assert not wrong


def test_there_are_goldens():
    assert len(GOLDENS) >= 5


@pytest.mark.parametrize("path", GOLDENS, ids=lambda p: p.stem)
def test_prompts_of_the_goldens_come_back(path):
    """The ids that llama.cpp evaluated are what our own tokenizer makes of their text, bos included."""
    name = path.name.replace(".golden.npz", ".gguf")
    model = MODEL if name == MODEL.name else path.with_name(name)
    golden = np.load(path)
    with GGUFFile.open(model) as gguf:
        tokenizer = Tokenizer.from_gguf(gguf)
    for key in (k for k in golden.files if k.endswith("ids")):
        ids = golden[key].tolist()
        text = tokenizer.decode(ids)
        if key.startswith("prompt") and not key.endswith("greedy_ids") and ids[0] == tokenizer.bos_id:
            assert tokenizer.encode(text) == ids, key
        assert "".join(map(tokenizer.stream().push, ids)) == text or "\ufffd" in text
