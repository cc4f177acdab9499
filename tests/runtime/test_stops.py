"""Stop strings: the same end however the text is cut, and nothing given out that belongs to a stop string."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.runtime.stops import StopStrings

pytestmark = pytest.mark.null


def _feed(pieces: list[str], stops: list[str], include: bool = False) -> tuple[list[str], str | None]:
    watch, out = StopStrings(stops, include), []
    for piece in pieces:
        out.append(watch.push(piece))
        if watch.matched:
            return out, watch.matched
    return [*out, watch.flush()], None


def _brute(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        hits = [s for s in stops if text[:end].endswith(s)]
        if hits:
            stop = max(hits, key=len)
            return text[: end if include else end - len(stop)], stop
    return text, None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    pieces=st.lists(st.text("ab", max_size=4), max_size=12),
    stops=st.lists(st.text("ab", min_size=1, max_size=5), max_size=3, unique=True),
    include=st.booleans(),
)
def test_any_cut_gives_what_one_character_at_a_time_gives(pieces: list[str], stops: list[str], include: bool) -> None:
    out, matched = _feed(pieces, stops, include)
    text, stop = _brute("".join(pieces), stops, include)
    assert ("".join(out), matched) == (text, stop)


def test_text_is_held_back_only_while_it_may_become_a_stop() -> None:
    watch = StopStrings(["END"])
    assert [watch.push(t) for t in ("ab", "cE", "N", "x", "E", "E", "ND")] == ["ab", "c", "", "ENx", "", "E", ""]
    assert watch.matched == "END"


def test_without_stops_text_passes() -> None:
    watch = StopStrings([])
    assert watch.push("abc") == "abc" and watch.flush() == "" and watch.matched is None
