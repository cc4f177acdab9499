"""`forge verify`: the table, what it says of a wrong kernel, and how it ends."""

from __future__ import annotations

import json

import pytest

from forge.amdgcn import emulate
from forge.errors import EmulationError
from forge.kernels import load
from forge.language import interpreted

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


def test_emulated_kernels_are_right_and_counted(forge):
    result = forge("verify", "--emulate", "gfx1100", "--op", "add", "--op", "take", "--waits", "--races")
    assert result.code == 0
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in result.out.splitlines() if "right" in line]
    assert [row[0] for row in rows] == ["add.add_flat", "take.take_rows"]
    for row in rows:
        assert int(row[1]) > 3 and int(row[4].replace(",", "")) > 100


def test_each_case_as_json(forge):
    result = forge("verify", "--emulate", "gfx942", "--op", "swiglu", "--cases", "-o", "json")
    found = json.loads(result.out)
    small = [c.name for c in load()["swiglu"].cases if c.small]
    assert result.code == 0 and found["target"] == "gfx942"
    assert [row["case"] for row in found["rows"]] == small
    assert all(row["instructions"] > 0 and not row["failure"] for row in found["rows"])


def test_a_trap_is_shown_and_the_others_run_on(forge, monkeypatch):
    run, calls = emulate.run, []

    def broken(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise EmulationError("one dword after x_ptr", kind="access out of bounds", where="0x40: s_nop")
        return run(*args, **options)

    monkeypatch.setattr(emulate, "run", broken)
    result = forge("verify", "--emulate", "gfx1201", "--op", "add", "--cases")
    assert result.code == 1 and "access out of bounds: one dword after x_ptr" in result.err
    assert result.out.count("WRONG") == 1 and result.out.count("right") == len(calls) - 1 > 3


def test_wrong_numbers_are_shown(forge, monkeypatch):
    monkeypatch.setattr(emulate.Dispatch, "run", lambda self: None)
    result = forge("verify", "--emulate", "gfx1100", "--op", "add")
    assert result.code == 1 and "NaN in other places" in result.err and "WRONG" in result.out


def test_a_model_runs_emulated(forge):
    options = ("-p", "def", "--max-tokens", "2", "--context", "32", "--max-seqs", "1", "--json")
    emulated = forge("run", "--target", "emulated:gfx1100", *options)
    assert emulated.code == 0 and emulated.json["outputs"] == forge("run", "--target", "cpu", *options).json["outputs"]
    assert "no emulator of cpu" in forge("run", "--target", "emulated:cpu", *options).err


def test_on_the_cpu(forge):
    result = forge("verify", "--target", "cpu", "--op", "softmax")
    assert result.code == 0 and "softmax_torch" in result.out and "instructions" not in result.out


@pytest.mark.parametrize(
    ("argv", "said", "code"),
    [
        (("--op", "nonsense"), "no op is called 'nonsense'", 2),
        (("--emulate", "sm_90"), "there is no emulator of sm_90", 4),
        (("--emulate", "gfx906"), "no target is called 'gfx906'", 4),
        (("--target", "cpu", "--waits"), "--emulate", 2),
    ],
)
def test_what_cannot_be_verified(forge, argv, said, code):
    result = forge("verify", *argv)
    assert result.code == code and said in result.err and not result.out
