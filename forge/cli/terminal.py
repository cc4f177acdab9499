"""What verbs print: results to stdout, notes and progress to stderr, tables and JSON in one form each."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from forge.visible import one_line, visible, visible_in_json

if TYPE_CHECKING:
    from forge.lower.weights import Progress

Cells = Sequence[object]


def emit(text: str) -> None:
    """A line of the result."""
    print(visible(text))


def note(text: str) -> None:
    """A line beside the result."""
    aside(f"{text}\n")


def aside(text: str) -> None:
    """Text beside the result. That nobody can read it (a full disk, a closed pipe) does not end the verb."""
    with suppress(OSError):
        print(visible(text), end="", file=sys.stderr, flush=True)


def emit_piece(text: str) -> None:
    """A piece of what a model says: as it is for programs; a terminal is not steered by it."""
    print(visible(text) if sys.stdout.isatty() else text, end="", flush=True)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings as lines beside the result, without the place in our code that they come from."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *where: note(f"warning: {message}")
        yield


def emit_json(value: Any) -> None:
    """The result as one JSON document, for programs."""
    print(visible_in_json(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)))


def emit_table(columns: Sequence[str], rows: Sequence[Cells], title: str = "") -> None:
    """Rows under headings. A heading that begins with ">" aligns its column to the right."""
    cells = [[one_line(str(c)) for c in row] for row in rows]
    if sys.stdout.isatty():
        _emit_rich(columns, cells, title)
        return
    if title:
        print(title)
    names = [c.removeprefix(">") for c in columns]
    widths = [max(len(line[i]) for line in (names, *cells)) for i in range(len(names))]
    for line in (names, *cells):
        padded = (
            text.rjust(w) if c.startswith(">") else text.ljust(w)
            for text, w, c in zip(line, widths, columns, strict=True)
        )
        print("  ".join(padded).rstrip())


def markdown(columns: Sequence[str], rows: Sequence[Cells]) -> str:
    """The same as a Markdown table, padded so that it reads well as it is."""
    lines = [[c.removeprefix(">") for c in columns], *([str(c) for c in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    right = [c.startswith(">") for c in columns]
    shown = [[t.rjust(w) if r else t.ljust(w) for t, w, r in zip(line, widths, right, strict=True)] for line in lines]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (shown[0], rule, *shown[1:]))


@contextmanager
def loading(what: str) -> Iterator[Progress | None]:
    """A bar on stderr while weights load, as the progress callback of `LLM` and `CompiledModel.load`."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(one_line(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def megabytes(count: int) -> str:
    """A number of bytes for people: 13.4 MB."""
    return f"{count / 1e6:,.1f} MB"


def _emit_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
