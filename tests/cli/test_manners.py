"""Faults 17: `forge run` takes what it is given, says what it does, and its remedies fit.

The bound: prompts from arguments, pipes and files; lines of a chat; errors of a turn; --debug anywhere on the line;
lengths of answers; system messages and template variables; paths that are addresses, folders or other files.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from cli.test_run import PROMPT, TINY, complete, typed  # noqa: F401 - fixtures

import forge as package
from forge.api import DEFAULT_MODEL
from forge.errors import CompileError, DeviceError, GraphError, RequestError, TokenizerError, UsageError
from forge.gguf import GGUFFile

pytestmark = pytest.mark.cpu

ROOT = Path(__file__).parents[2]


class TestPrompts:
    def test_of_a_pipe(self, complete, monkeypatch):  # noqa: F811
        expected = complete("-p", PROMPT, "--max-tokens", 4).out
        for argv in ((), (DEFAULT_MODEL,)):
            monkeypatch.setattr(sys, "stdin", io.StringIO(PROMPT))
            assert complete(*argv, "--max-tokens", 4).out == expected

    @pytest.mark.parametrize("text", ["def f(x):", "hello", "a/b c", "what is 1/2 ?", "x" * 5000])
    def test_as_a_lone_argument(self, complete, monkeypatch, text):  # noqa: F811
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        argv = ("--max-tokens", 1) if len(text) < 1000 else ("--context", "64")
        lone, named = complete(text, *argv), complete("-p", text, *argv)
        assert (lone.code, lone.out) == (named.code, named.out)

    @pytest.mark.parametrize("path", ["no-such.gguf", "models/none", "./none"])
    def test_a_path_is_no_prompt(self, complete, monkeypatch, path):  # noqa: F811
        monkeypatch.setattr(sys, "stdin", io.StringIO("x"))
        assert complete(path).code == 3

    def test_that_is_no_text(self, complete, monkeypatch):  # noqa: F811
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
        result = complete()
        assert result.code == 2 and "UTF-8" in result.err


class TestLengths:
    def test_a_short_context_refuses_no_short_prompt(self, complete):  # noqa: F811
        text = "x = 1\n" * 35  # more than half of the context
        result = complete("-p", text)
        assert result.code == 0 and "generated" in result.err

    def test_a_cut_is_said_and_an_end_is_not(self, complete):  # noqa: F811
        assert "cut after 3 tokens" in complete("-p", PROMPT, "--max-tokens", 3).err
        whole = complete("-p", PROMPT, "--max-tokens", 8).out
        assert "cut" not in complete("-p", PROMPT, "--max-tokens", 8, "--stop", whole[3:6]).err

    def test_what_the_user_asks_for_is_not_made_less(self, complete):  # noqa: F811
        result = complete("-p", PROMPT, "--max-tokens", 1000)
        assert result.code == 1 and "context" in result.err


@pytest.fixture
def talk(complete, typed, monkeypatch):  # noqa: F811
    """Type lines into a chat whose template is `template`; gives the result and what was rendered."""

    def run(*lines, argv=(), template="{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", fails=None):
        complete("-p", PROMPT, "--max-tokens", 1)
        llm, seen = complete.llm(), []

        def chat_ids(messages, chat_template_kwargs=None):
            seen.append(([(m["role"], m["content"]) for m in messages], dict(chat_template_kwargs or {})))
            if fails is not None and len(seen) == 1:
                raise fails
            return [1, 2, 3]

        monkeypatch.setattr(llm, "chat_ids", chat_ids)
        monkeypatch.setattr(type(llm.tokenizer), "chat_template", template)
        typed(*lines)
        return complete("--max-tokens", 2, *argv), seen

    return run


class TestChats:
    def test_an_empty_line_forgets_nothing(self, talk):
        _, seen = talk("one", "", "   ", "two")
        assert [len(messages) for messages, _ in seen] == [1, 3]

    def test_clear_forgets_all_but_the_system_message(self, talk):
        _, seen = talk("one", "/clear", "two", argv=("--system", "Be brief."))
        assert [m for m, _ in seen] == [[("system", "Be brief."), ("user", text)] for text in ("one", "two")]

    @pytest.mark.parametrize("kind", [TokenizerError, UsageError, RequestError, GraphError, CompileError])
    def test_an_error_ends_the_turn(self, talk, kind):
        result, seen = talk("one", "two", fails=kind("of this turn"))
        assert result.code == 0 and "error: of this turn" in result.err and len(seen[1][0]) == 1

    def test_a_lost_device_ends_the_chat(self, talk):
        assert talk("one", "two", fails=DeviceError("it is gone"))[0].code == 6

    def test_an_error_of_a_turn_has_its_traceback_for_those_who_ask(self, talk):
        assert "Traceback" in talk("one", argv=("--debug",), fails=TokenizerError("x"))[0].err
        assert "Traceback" not in talk("one", fails=TokenizerError("x"))[0].err

    def test_variables_reach_the_template(self, talk):
        argv = ("--set", "enable_thinking=false", "--set", "name=Ann", "--set", "n=3", "--chat", "-p", "hi")
        _, seen = talk(argv=argv)
        assert seen == [([("user", "hi")], {"enable_thinking": False, "name": "Ann", "n": 3})]

    @pytest.mark.parametrize("argv", [("--set", "x"), ("--set", "a b=1"), ("--system", "x", "-p", "y")])
    def test_what_makes_no_sense_is_refused(self, complete, argv):  # noqa: F811
        assert complete(*argv).code == 2


@pytest.mark.parametrize(
    "line", ["show X", "run X x", "dump X --plan", "bench model X", "bench --op none", "verify --op X"]
)
def test_debug_works_for_every_verb_wherever_it_stands(forge, line):
    words = line.replace("X", "none.gguf").split()
    for argv in (["--debug", *words], [words[0], "--debug", *words[1:]], [*words, "--debug"]):
        result = forge(*argv)
        assert result.code not in (0, 70) and "Traceback" in result.err, argv
    assert "Traceback" not in forge(*words).err


@pytest.mark.parametrize(
    ("path", "content", "remedy"),
    [
        ("https://example.com/model.gguf", None, "download it first"),
        ("hf://user/model.gguf", None, "download it first"),
        ("none.gguf", None, "check the path"),
        ("folder", "", "name the .gguf file"),
        ("x.gguf", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("x.gguf", b"<!DOCTYPE html><html>", "web page"),
        ("x.gguf", b"PK\x03\x04aaaa", "convert"),
        ("x.gguf", b"\x1f\x8b\x08\x00aa", "unpack"),
        ("x.gguf", b"abcdefgh", "download or convert"),
    ],
)
def test_a_remedy_fits_what_was_given(forge, tmp_path, monkeypatch, path, content, remedy):
    monkeypatch.chdir(tmp_path)
    if content == "":
        Path(path).mkdir()
    elif content is not None:
        Path(path).write_bytes(content)
    result = forge("show", path)
    assert result.code == 3 and remedy in result.err


def test_a_model_compiled_from_a_file_that_was_closed_loads():
    with GGUFFile.open(DEFAULT_MODEL) as gguf:
        model = package.compile(gguf, target="cpu", context=64)
    assert model.logits([1, 2]).shape[0] == 2


def test_a_closed_file_is_said_to_be_closed():
    with GGUFFile.open(DEFAULT_MODEL) as gguf:
        pass
    with pytest.raises(UsageError, match="the model file is closed"):
        package.compile(gguf, target="cpu")


def test_a_source_distribution_leaves_the_tests_models_out():
    import tomllib

    sdist = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    left = [f for f in listed.split("\0")[:-1] if not any(f"/{f}".startswith(f"{e}/") for e in sdist["exclude"])]
    assert sum((ROOT / f).stat().st_size for f in left) < 25e6 and len(TINY) == 4
