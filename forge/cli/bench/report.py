"""What was measured, in the form asked for: Markdown, CSV, JSON, JSON lines, or SQL as llama-bench writes it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forge.cli.terminal import emit, emit_json

FORMATS = ("md", "csv", "json", "jsonl", "sql")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Rows of one kind with what is true of them all. `rows` and `about` are JSON values.

    CSV, JSON lines and SQL have a row for each of `rows`, with `about` before it; JSON is one object, of `about` and
    of the rows as `nested` gives them. `text` makes the Markdown. `table` is the name in SQL.
    """

    table: str
    about: Row
    rows: Sequence[Row]
    text: Callable[[], str]
    nested: Row | None = None

    def emit(self, form: str) -> None:
        """Print it in one of FORMATS."""
        whole = [{**self.about, **row} for row in self.rows]
        if form == "md":
            emit(self.text())
        elif form == "json":
            emit_json({**self.about, **({"rows": list(self.rows)} if self.nested is None else self.nested)})
        elif form == "jsonl":
            for row in whole:
                emit(json.dumps(row, ensure_ascii=False, allow_nan=False))
        else:
            flat = [flattened(row) for row in whole]
            emit(as_csv(flat) if form == "csv" else as_sql(self.table, flat))


def flattened(row: Row, prefix: str = "") -> dict[str, Any]:
    """A row of plain values: within an object keys are joined by "_", and a list is its JSON."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{name}_")
        else:
            flat[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, (list, tuple)) else value
    return flat


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The names in all rows, in the order in which they come up."""
    return list(dict.fromkeys(name for row in rows for name in row))


def as_csv(rows: Sequence[Row]) -> str:
    """RFC 4180, with a header; what a row lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().removesuffix("\n")


def as_sql(table: str, rows: Sequence[Row]) -> str:
    """CREATE TABLE IF NOT EXISTS and an INSERT a row; what a row lacks is NULL."""
    columns = columns_of(rows)
    names = ", ".join(_name(c) for c in columns)
    declared = ",\n".join(f"  {_name(c)} {_type(c, rows)}" for c in columns)
    created = f"CREATE TABLE IF NOT EXISTS {_name(table)} (\n{declared}\n);\n"
    values = (", ".join(_value(row.get(c)) for c in columns) for row in rows)
    return "\n".join([created, *(f"INSERT INTO {_name(table)} ({names}) VALUES ({each});" for each in values)])


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _type(column: str, rows: Sequence[Row]) -> str:
    found = {type(row[column]) for row in rows if row.get(column) is not None}
    if found and found <= {int, bool}:
        return "INTEGER"
    return "REAL" if found and found <= {int, float} else "TEXT"


def _value(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (bool, int, float)):
        return repr(int(value) if isinstance(value, bool) else value)
    return "'" + str(value).replace("'", "''") + "'"
