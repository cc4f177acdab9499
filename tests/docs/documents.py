"""README.md, CONTRIBUTING.md and docs/*.md as the tests read them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))
_BLOCK = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.M)


def blocks(path: Path, info: str) -> list[tuple[int, str]]:
    """(line before its first line, text) of each fenced block whose info string is `info`."""
    text = path.read_text()
    return [(text.count("\n", 0, m.start(2)), m[2]) for m in _BLOCK.finditer(text) if m[1] == info]


def runnable(path: Path) -> str:
    """The blocks marked "python run" as one module, every line at its own line number of the document."""
    lines: list[str] = []
    for start, text in blocks(path, "python run"):
        lines += [""] * (start - len(lines))
        lines += text.splitlines()
    return "\n".join(lines) + "\n"
