"""The forms of `forge bench`'s rows: each holds the same values, and other programs read them back."""

from __future__ import annotations

import csv
import io
import json
import sqlite3

import pytest

from forge.cli.bench.report import Report, flattened

pytestmark = pytest.mark.cpu

ABOUT = {"model": 'Bobby\'s "1;\n2" model, 1', "seen": True}
ROWS = (
    {"test": "pp8", "tokens": 8, "rate": 1.5, "samples": [1.0, 2.0], "why": {"limit": None, "by": "memory"}},
    {"test": "tg4 @ d16", "tokens": 4, "rate": 3, "more": "é|x"},
)


def _printed(form, capsys):
    Report("bench's", ABOUT, ROWS, lambda: "a table").emit(form)
    return capsys.readouterr().out


def test_sql_gives_back_every_value_whatever_is_in_a_name(capsys):
    base = sqlite3.connect(":memory:")
    text = _printed("sql", capsys)
    base.executescript(text)
    base.executescript(text)  # rows of two runs go into one table
    found = base.execute('SELECT * FROM "bench\'s"')
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, row, strict=True)) for row in found]
    assert len(rows) == 4 and rows[:2] == rows[2:]
    assert names == ["model", "seen", "test", "tokens", "rate", "samples", "why_limit", "why_by", "more"]
    assert all(row["model"] == ABOUT["model"] and row["seen"] == 1 for row in rows)
    assert rows[0]["rate"] == 1.5 and json.loads(rows[0]["samples"]) == [1.0, 2.0] and rows[0]["why_limit"] is None
    assert rows[1]["test"] == "tg4 @ d16" and rows[1]["more"] == "é|x" and rows[1]["samples"] is None
    types = {name: type for _, name, type, *_ in base.execute('PRAGMA table_info("bench\'s")')}
    assert (types["tokens"], types["rate"], types["test"], types["seen"]) == ("INTEGER", "REAL", "TEXT", "INTEGER")


def test_csv_json_and_lines_of_json_hold_the_same_rows(capsys):
    (first, second) = csv.DictReader(io.StringIO(_printed("csv", capsys)))
    assert first["model"] == second["model"] == ABOUT["model"] and (first["rate"], second["rate"]) == ("1.5", "3")
    assert second["samples"] == "" and first["why_by"] == "memory"
    lines = [json.loads(line) for line in _printed("jsonl", capsys).splitlines()]
    assert lines == [{**ABOUT, **row} for row in ROWS]
    assert json.loads(_printed("json", capsys)) == {**ABOUT, "rows": [*ROWS]}
    assert _printed("md", capsys) == "a table\n"


def test_flat_rows_have_plain_values():
    assert flattened({"a": {"b": {"c": 1}, "d": [1, "x"]}, "e": None}) == {"a_b_c": 1, "a_d": '[1, "x"]', "e": None}


@pytest.mark.parametrize(
    "what",
    [
        ("model", "-p", "8", "-n", "0", "-r", "1"),
        ("model", "-p", "4", "--breakdown", "-r", "1"),
        ("ops", "--op", "swiglu"),
    ],
)
def test_every_kind_has_every_form(forge, tiny_model, what):
    kind, *flags = what
    given = (kind, tiny_model, *flags) if kind == "model" else (kind, *flags, "--target", "cpu")
    lines = [json.loads(line) for line in forge("bench", *given, "-o", "jsonl").out.splitlines()]
    rows = list(csv.DictReader(io.StringIO(forge("bench", *given, "-o", "csv").out)))
    base = sqlite3.connect(":memory:")
    base.executescript(forge("bench", *given, "-o", "sql").out)
    ((table,),) = base.execute("SELECT name FROM sqlite_master")
    ((count,),) = base.execute(f"SELECT count(*) FROM {table}")
    assert len(lines) == len(rows) == count > 0
    assert all(set(rows[0]) == set(flattened(line)) for line in lines)


def test_a_model_may_be_called_anything(forge, tiny_model, tmp_path):
    """A name of quotes, commas and line ends comes back from SQL and CSV as it is."""
    odd = tmp_path / 'it\'s; a "model",\n2.gguf'
    odd.symlink_to(tiny_model)
    flags = ("bench", "model", odd, "-p", "4", "-n", "0", "-r", "1", "-o")
    base = sqlite3.connect(":memory:")
    base.executescript(forge(*flags, "sql").out)
    assert base.execute("SELECT path, test FROM bench_model").fetchall() == [(str(odd), "pp4")]
    (row,) = csv.DictReader(io.StringIO(forge(*flags, "csv").out))
    assert row["path"] == str(odd)
