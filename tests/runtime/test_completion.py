"""Completion: when a sequence is over, and the text it then has."""

from __future__ import annotations

from typing import Any

import pytest
from runtime.fake_lm import EOS, FakeTokenizer

from forge.runtime.completion import Completion
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request

pytestmark = pytest.mark.null

A, B = FakeTokenizer().encode("a")[0], FakeTokenizer().encode("a")[0] + 1
TEXT = FakeTokenizer().decode([A, B])
PART = next(i for i in range(1, 48) if FakeTokenizer().decode([i]) == "\ufffd")


def _run(ids: list[int], **fields: Any) -> tuple[int, str, str | None, int | str | None]:
    """Tokens taken, text, finish reason, stop reason."""
    params = SamplingParams(**fields)
    own = frozenset(params.stop_token_ids or ())
    completion = Completion(Request("r", [1], params, stop_ids=own | {EOS}, seed=0), FakeTokenizer())
    for token in ids:
        reason = completion.push(token, None)
        if reason is not None:
            break
    got = completion.output(delta=False)
    assert got.token_ids == ids[: len(got.token_ids)]
    return len(got.token_ids), got.text, reason, got.stop_reason


def test_ends() -> None:
    a, b = TEXT
    assert _run([A, B, A], max_tokens=3) == (3, a + b + a, "length", None)
    assert _run([A, EOS, A]) == (2, a, "stop", None)
    assert _run([A, B, A], stop_token_ids=[B]) == (2, a, "stop", B)
    assert _run([A, B, A], stop_token_ids=[B], include_stop_str_in_output=True) == (2, a + b, "stop", B)
    assert _run([A, B, A], stop=b) == (2, a, "stop", b)
    assert _run([A, B, A], stop=b, include_stop_str_in_output=True) == (2, a + b, "stop", b)
    assert _run([A, B], stop=b, max_tokens=2) == (2, a, "stop", b), "a stop string goes before the length"


def test_stop_strings_wait_for_min_tokens() -> None:
    a = TEXT[0]
    assert _run([A] * 5, stop=a, min_tokens=2) == (3, a * 2, "stop", a)
    assert _run([A] * 5, stop=a * 2, min_tokens=2) == (4, a * 2, "stop", a * 2)


def test_text_held_back_comes_out_at_the_end() -> None:
    a, b = TEXT
    assert _run([B, A], stop=a + b, max_tokens=2) == (2, b + a, "length", None)
    assert _run([B, A, EOS], stop=a + b) == (3, b + a, "stop", None)
    assert _run([A, PART], max_tokens=2) == (2, a + "\ufffd", "length", None)


def test_deltas_hold_what_is_new() -> None:
    completion = Completion(Request("r", [1], SamplingParams(seed=0)), FakeTokenizer())
    seen = []
    for token in (A, B, B):
        completion.push(token, None)
        seen.append(completion.output(delta=True))
    assert [(d.text, d.token_ids) for d in seen] == [(TEXT[0], [A]), (TEXT[1], [B]), (TEXT[1], [B])]
    assert completion.output(delta=True).token_ids == []
