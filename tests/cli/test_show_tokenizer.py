"""`forge show` checks the tokenizer as `forge run` does (Faults 5): the same warning, once, and the same refusal.

The bound: any warning and any ForgeError that `Tokenizer.from_gguf` gives for a file.
"""

from __future__ import annotations

import pytest
from loading.gguf_draft import STRING, tiny_llama

pytestmark = pytest.mark.cpu

VERBS = {"show": ("--target", "cpu"), "run": ("-p", "a", "--max-tokens", 1, "--target", "cpu")}


@pytest.fixture
def write(tmp_path):
    def write(draft):
        path = tmp_path / "model.gguf"
        path.write_bytes(draft.write())
        return path

    return write


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_that_names_no_split_is_warned_of_once_in_plain_words(forge, write, verb):
    done = forge(verb, write(tiny_llama().without("tokenizer.ggml.pre")), *VERBS[verb])
    lines = [line for line in done.err.splitlines() if "tokenizer.ggml.pre" in line]
    assert done.code == 0 and len(lines) == 1, done.err
    assert lines[0].startswith("warning: ") and "convert the model again" in lines[0]
    assert "RuntimeWarning" not in done.err and ".py:" not in done.err


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_that_names_its_split_is_not_warned_of(forge, write, verb):
    assert "warning" not in forge(verb, write(tiny_llama()), *VERBS[verb]).err


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [("tokenizer.ggml.pre", "nobody", "the pre-tokenizer 'nobody'"), ("tokenizer.ggml.model", "t5", "'t5'")],
)
def test_show_says_what_run_refuses(forge, write, key, value, what):
    path = write(tiny_llama().set(key, STRING, value))
    refused = forge("run", path, *VERBS["run"])
    shown = forge("show", path, "--json", *VERBS["show"])
    assert refused.code == 4 and what in refused.err
    assert shown.code == 0 and what in shown.json["error"]["what"] and shown.json["memory"] is None
