"""Faults 14: no text of a file steers the terminal, through `show`, errors, chats or JSON.

The bound: control characters of C0 and C1, marks of direction and characters without width, in metadata keys
and values, tensor names and paths; what is printed holds none of them but newlines, and JSON reads back as it was.
"""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from loading.gguf_draft import ARRAY, STRING, array, string, tiny_llama

from forge.cli import terminal
from forge.errors import ForgeError
from forge.visible import one_line, visible, visible_in_json

pytestmark = pytest.mark.cpu

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x0d\x9b31m\x7f\u202eevil\u2066\u200b\u2028\U000e0041"


def steers(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") and c != "\n"]


@pytest.fixture
def hostile_file(tmp_path):
    def write(**tensor):
        draft = tiny_llama().set(f"key.{HOSTILE}", STRING, f"value {HOSTILE}\nnext\tone")
        draft = draft.set("list", ARRAY, array(STRING, [string(HOSTILE)])).set("general.name", STRING, HOSTILE)
        path = tmp_path / "\x1b[31mhostile\u202e.gguf"
        path.write_bytes(draft.tensor("output_norm.weight", **tensor).write())
        return path

    return write


@pytest.mark.parametrize("flags", [(), ("--json",), ("--tensors",)])
def test_show_prints_nothing_that_steers(forge, hostile_file, flags):
    result = forge("show", hostile_file(name=HOSTILE[:20]), *flags)
    assert result.code == 0 and not steers(result.out) and not steers(result.err)
    if flags == ("--json",):
        assert result.json["metadata"][f"key.{HOSTILE}"] == f"value {HOSTILE}\nnext\tone"
    else:
        assert r"value \x1b]0;owned\x07\x1b[2J\x0d\x9b31m\x7f\u202eevil" in result.out and r"\nnext\tone" in result.out


@pytest.mark.parametrize("verb", [("show",), ("run", "-p", "x"), ("dump", "--plan")])
@pytest.mark.parametrize("tensor", [{"name": HOSTILE[:20]}, {"name": HOSTILE[:20], "kind": 99}, {"name": HOSTILE}])
def test_errors_print_nothing_that_steers(forge, hostile_file, verb, tensor):
    result = forge(verb[0], hostile_file(**tensor), *verb[1:])
    assert not steers(result.out) and not steers(result.err)


def test_an_error_as_text_is_safe_wherever_it_is_printed():
    error = ForgeError(f"a {HOSTILE}", where=f"b {HOSTILE}", remedy=f"c {HOSTILE}")
    assert not steers(str(error)) and error.what == f"a {HOSTILE}"


def test_what_a_model_says_does_not_steer_a_terminal_and_is_whole_for_programs(capsys, monkeypatch):
    terminal.emit_piece(HOSTILE)
    assert capsys.readouterr().out == HOSTILE
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal.emit_piece(HOSTILE + "\n\tx")
    shown = capsys.readouterr().out
    assert not steers(shown.replace("\t", "")) and shown.endswith("\n\tx")


def test_every_character_that_steers_is_escaped_and_what_scripts_need_is_not():
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category in ("Cc", "Zl", "Zp", "Cs") and chr(code) not in "\n\t":
            assert visible(chr(code)) != chr(code), hex(code)
    assert all(visible(chr(c)) != chr(c) for c in (0x202A, 0x202E, 0x2066, 0x2069, 0x200E, 0x200F, 0x61C, 0xFEFF))
    plain = "naïve 日本語 👩\u200d💻 \u06cc\u200c\u062e e\u0301\n\t\u00a0"
    assert visible(plain) == plain and one_line("a\tb\n") == r"a\tb\n"
    assert json.loads(visible_in_json(json.dumps([HOSTILE], ensure_ascii=False))) == [HOSTILE]
