"""`forge bench --emulate`: counts of the code, a wave and a unit of the work, and no time among them."""

from __future__ import annotations

import pytest

from forge.bench.emulated import cases, sized, units_of
from forge.cli.bench.counted import WAVE
from forge.kernels import load
from forge.language import interpreted
from forge.lower.select import call_of
from forge.target import TARGETS

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


def table(text: str) -> list[dict[str, str]]:
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_the_counts_of_an_addition_are_those_of_its_case(forge):
    (row,) = forge("bench", "--emulate", "gfx1100", "--op", "add", "-o", "json").json["rows"]
    assert (row["kernel"], row["unit"], row["units"], row["launches"]) == ("add_flat", "element", 4 * 4096, 1)
    assert row["loaded_per_unit"] == 6 and row["masked"] == row["idle"] == row["multiply_adds_per_unit"] == 0
    counted = row["counters"]
    assert sum(counted["memory"]["stored"].values()) == 4 * row["units"]
    assert row["valu_per_unit"] == counted["slots"] / row["units"] and counted["active"] == counted["slots"]


def test_both_forms_count_the_same(forge):
    whole = forge("bench", "--emulate", "gfx942", "--op", "softmax", "-o", "json").json
    ops = forge("bench", "ops", "--emulate", "gfx942", "--op", "softmax", "-o", "json").json
    mixed = forge("bench", "--emulate", "gfx942", "-o", "json", "ops", "--op", "softmax").json
    for found in (whole, ops, mixed):
        assert found["target"] == "gfx942" and "no times" in found["about"]
        for row in found["rows"]:
            del row["seconds"]
    assert whole["rows"] == ops["rows"] == mixed["rows"]


def test_the_table_shows_instructions_a_wave_and_says_that_they_are_no_times(forge):
    shown = forge("bench", "--emulate", "gfx1201", "--op", "quantize_q8").out
    found = forge("bench", "--emulate", "gfx1201", "--op", "quantize_q8", "-o", "json").json["rows"]
    assert "They are no times" in shown.splitlines()[-1]
    for cells, row in zip(table(shown), found, strict=True):
        counted = row["counters"]
        total = sum(float(cells[name].replace(",", "")) for name in WAVE)
        assert total == pytest.approx(sum(counted["instructions"].values()) / counted["waves"], abs=0.5)
        assert cells["bytes"] == f"{row['loaded_per_unit']:.3f}" and cells["a"] == "element"


def test_attention_is_counted_by_the_keys_of_every_kv_head(forge):
    rows = forge("bench", "--emulate", "gfx942", "--op", "flash_attention", "-o", "json").json["rows"]
    assert [(r["unit"], r["units"]) for r in rows] == [("key", 2 * 64), ("key", 2 * 512)]
    for row in rows:  # 4 query heads a kv head, 64 queries, 128 wide, scores and values; a causal mask may halve it
        assert row["multiply_adds_per_unit"] >= 4 * 64 * 128 and row["loaded_per_unit"] >= 2 * 128 * 2


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1151", "gfx1201"])
def test_every_case_is_one_that_a_kernel_serves(arch):
    ops = load()
    assert ops.keys() >= sized().keys()
    for op in ops.values():
        for case in () if op.view else cases(op):
            call = call_of(op, case.types, case.attrs, TARGETS[arch])
            assert any(k.serves(call) for k in op.kernels.values()) and units_of(op, case)[1] > 0


def test_weights_are_counted_once_whatever_the_tokens():
    linear = load()["linear"]
    assert {units_of(linear, c) for c in sized()["linear"] if c.types[0].shape[0] == 1} == {("weight", 64 * 4096)}


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ((), 2, "nothing is said"),
        (("--emulate", "gfx1101"), 4, "no emulator of gfx1101"),
        (("--emulate", "cpu"), 4, "no emulator of cpu"),
        (("--emulate", "gfx1100", "--op", "nonsense"), 2, "nonsense"),
        (("--emulate", "gfx1100", "model"), 2, "single ops"),
        (("--op", "add", "model"), 2, "single ops"),
        (("ops", "--emulate", "gfx1100", "--target", "cpu"), 2, "--target with --emulate"),
    ],
)
def test_what_cannot_be_counted_ends_with_its_code(forge, argv, code, words):
    found = forge("bench", *argv)
    assert found.code == code and words in found.err and not found.out
