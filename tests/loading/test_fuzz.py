"""The fuzzer of `make fuzz` tries what it says, the same for one seed, and sees a fault of any kind."""

from __future__ import annotations

import time

import fuzz
import pytest

pytestmark = pytest.mark.cpu


def test_mutants_are_read_or_refused_and_the_same_for_one_seed(tmp_path):
    outcomes, faults = fuzz.fuzz(300, 30, 3, tmp_path / "kept")
    assert not faults and not (tmp_path / "kept").exists() and sum(outcomes.values()) == 300
    assert outcomes["read"] and outcomes["FileFormatError"] and outcomes["TokenizerError"]
    assert fuzz.fuzz(300, 30, 3, tmp_path / "kept")[0] == outcomes != fuzz.fuzz(300, 30, 4, tmp_path / "kept")[0]


def test_it_ends_in_time(tmp_path):
    begun = time.monotonic()
    fuzz.fuzz(10**9, 0.3, 1, tmp_path)
    assert time.monotonic() - begun < 5


class Panic(BaseException):
    """As the one of Rust: no Exception."""


def _raises(path):
    raise Panic("no Exception")


def _spends(path):
    until = time.process_time() + 0.1
    while time.process_time() < until:
        continue
    return "read"


def _takes(path):
    return str(len(bytearray(b"\1") * (fuzz._peak() + 300_000_000)))[:0] + "read"


@pytest.mark.parametrize(("planted", "word"), [(_raises, "Panic"), (_spends, " s, "), (_takes, " MB")])
def test_a_planted_fault_is_told_and_kept(tmp_path, monkeypatch, capsys, planted, word):
    monkeypatch.setattr(fuzz, "read", planted)
    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    assert fuzz.main(["--mutants", "1", "--seed", "9", "--kept", str(tmp_path / "kept")]) == 1
    assert word in capsys.readouterr().out and (tmp_path / "kept" / "9-0.gguf").exists()
