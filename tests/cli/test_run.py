"""`forge run`: a completion on stdout, everything else on stderr, and refusals before anything is loaded."""

from __future__ import annotations

import io
import sys
import time
from dataclasses import fields

import pytest

from forge.cli import run as verb
from forge.errors import MemoryPlanError, NumericsError, TokenizerError
from forge.runtime.output import CompletionOutput, RequestOutput

pytestmark = pytest.mark.cpu

TINY = ("--max-seqs", "2", "--context", "256")
PROMPT = "def add(self, other):\n"


@pytest.fixture
def complete(forge, one_llm):
    """Run on the default model, loaded once."""

    def run(*argv):
        return forge("run", *argv, *TINY)

    run.llm = lambda: next(iter(one_llm.values()))[0]
    return run


def _idle(llm):
    """Whether the engine has nothing left to do, at once or soon."""
    deadline = time.monotonic() + 5
    while llm.engine.has_work and time.monotonic() < deadline:
        time.sleep(0.01)
    return not llm.engine.has_work


def test_stdout_holds_the_completion_and_nothing_else(complete):
    result = complete("-p", PROMPT, "--max-tokens", 12)
    as_json = complete("-p", PROMPT, "--max-tokens", 12, "--json").json
    assert result.code == 0
    assert result.out == as_json["outputs"][0]["text"] + "\n" and len(result.out) > 10
    assert PROMPT in result.err and "12 generated" in result.err and "tokens/s" in result.err


def test_json_is_a_request_output_with_its_own_field_names(complete):
    shown = complete("-p", PROMPT, "--max-tokens", 3, "--json", "--logprobs", 2).json
    assert list(shown) == [f.name for f in fields(RequestOutput)]
    completion = shown["outputs"][0]
    assert list(completion) == [f.name for f in fields(CompletionOutput)]
    assert shown["prompt"] == PROMPT and shown["finished"] and completion["finish_reason"] == "length"
    assert len(completion["token_ids"]) == len(completion["logprobs"]) == 3


def test_the_prompt_may_be_an_argument_after_the_model_or_come_from_stdin(complete, monkeypatch):
    from forge.api import DEFAULT_MODEL

    expected = complete("-p", PROMPT, "--max-tokens", 4).out
    assert complete(DEFAULT_MODEL, PROMPT, "--max-tokens", 4).out == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO(PROMPT))
    assert complete("-p", "-", "--max-tokens", 4).out == expected


def test_with_no_model_no_prompt_and_no_terminal_it_completes_python(complete, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    result = complete("--max-tokens", 8)
    assert result.code == 0 and result.out.strip() and verb.DEFAULT_PROMPT in result.err


def test_a_stop_string_ends_the_text_before_it(complete):
    text = complete("-p", PROMPT, "--max-tokens", 12).out.rstrip("\n")
    stop = text[5:8]
    assert complete("-p", PROMPT, "--max-tokens", 12, "--stop", stop).out == text[: text.index(stop)] + "\n"


def test_sampling_flags_reach_the_engine(complete):
    argv = ("-p", PROMPT, "--max-tokens", 12, "--temperature", 1.5)
    greedy = complete("-p", PROMPT, "--max-tokens", 12).out
    first, again, other = (complete(*argv, "--seed", seed).out for seed in (1, 1, 2))
    assert first == again and len({greedy, first, other}) == 3
    assert complete(*argv, "--seed", 1, "--top-k", 1).out == greedy


def test_interrupting_cancels_the_request(complete, monkeypatch):
    calls = iter(range(100))

    def interrupted_clock():
        if next(calls) == 2:
            raise KeyboardInterrupt
        return time.perf_counter()

    monkeypatch.setattr(verb, "perf_counter", interrupted_clock)
    result = complete("-p", PROMPT, "--max-tokens", 200, "--ignore-eos")
    assert result.code == 130
    assert _idle(complete.llm()) and complete.llm().engine.pool.used == 0


@pytest.fixture
def typed(monkeypatch):
    """A terminal at which these lines are typed."""

    def type_lines(*lines):
        entered = iter(lines)

        def read(prompt=""):
            line = next(entered, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr("builtins.input", read)
        stdin = io.StringIO()
        stdin.isatty = lambda: True
        monkeypatch.setattr(sys, "stdin", stdin)

    return type_lines


def test_without_a_template_each_line_is_a_completion(complete, typed):
    typed(PROMPT, "", "import os\n")
    result = complete("--max-tokens", 4)
    parts = [complete("-p", p, "--max-tokens", 4).out for p in (PROMPT, "import os\n")]
    assert result.code == 0 and result.out == "".join(parts)


def test_a_chat_keeps_the_conversation_until_it_is_cleared(complete, typed, monkeypatch):
    complete("-p", PROMPT, "--max-tokens", 1)
    llm, seen = complete.llm(), []

    def chat_ids(messages, **template):
        seen.append([(m["role"], m["content"]) for m in messages])
        return [1, 2, 3]

    monkeypatch.setattr(llm, "chat_ids", chat_ids)
    monkeypatch.setattr(type(llm.tokenizer), "chat_template", "{{ messages }}")
    typed("one", "two", "/clear", "three")
    answer = complete("--max-tokens", 4).out.splitlines()[0]
    roles = [[role for role, _ in messages] for messages in seen]
    assert roles == [["user"], ["user", "assistant", "user"], ["user"]]
    assert seen[1][1][1].splitlines()[0] == answer and seen[2] == [("user", "three")]


def test_a_turn_that_is_too_long_does_not_end_the_chat(complete, typed):
    typed("x = 1\n" * 400, PROMPT)
    result = complete("--max-tokens", 4)
    assert result.code == 0 and "error:" in result.err
    assert result.out.endswith(complete("-p", PROMPT, "--max-tokens", 4).out)


@pytest.mark.parametrize("error", [NumericsError, MemoryPlanError, TokenizerError])
def test_a_turn_that_fails_does_not_end_the_chat(complete, typed, monkeypatch, error):
    complete("-p", PROMPT, "--max-tokens", 1)
    llm = complete.llm()
    stream, told = llm.stream, iter([error("of one turn")])

    def fails_once(prompt, params):
        for raised in told:
            raise raised
        return stream(prompt, params)

    monkeypatch.setattr(llm, "stream", fails_once)
    typed("one", PROMPT)
    result = complete("--max-tokens", 4)
    assert result.code == 0 and "error: of one turn" in result.err
    assert result.out == complete("-p", PROMPT, "--max-tokens", 4).out


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("-p", "x", "--temperature", -1), 2),
        (("-p", "x", "--top-p", 2), 2),
        (("-p", "x", "--max-tokens", 0), 2),
        (("-p", "x", "--seed", "x"), 2),
        (("-p", "x", "--memory", "lots"), 2),
        (("-p", "x", "--memory", "1M"), 7),
        (("-p", "x", "--dtype", "f64", "--target", "cpu"), 2),
        (("-p", "x", "--context", 1 << 30), 2),
        (("-p", "x", "--context", 0), 2),
        (("-p", "x", "--target", "gfx1"), 4),
        (("-p", "x", "--target", "gfx942"), 6),
        (("no-such-file.gguf", "x"), 3),
        (("model.gguf", "x", "-p", "y"), 2),
        (("model.gguf",), 2),
    ],
)
def test_what_cannot_run_ends_with_its_code(forge, monkeypatch, argv, code):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    result = forge("run", *argv)
    assert (result.code, result.out) == (code, "") and "error" in result.err
