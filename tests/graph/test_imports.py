"""No module of the package imports itself by way of others: not at import, not lazily, not for types alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import forge

pytestmark = pytest.mark.null
ROOT = Path(forge.__file__).parent


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, modules: set[str]) -> set[str]:
    """Modules that a file imports anywhere in its text."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & modules or {node.module}
    return (found & modules) - {name_of(path)}


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """The modules that are left when those which import nothing left are taken away, again and again."""
    left = dict(graph)
    while free := [m for m, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    return sorted(left)


def test_the_search_finds_a_cycle():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) == ["a", "b", "c"]
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_imports_have_no_cycles():
    files = {name_of(path): path for path in ROOT.rglob("*.py")}
    assert cycle({module: imports(path, set(files)) for module, path in files.items()}) == []
