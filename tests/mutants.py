"""Deliberate faults, each of which a test must see: `make mutants`.

Every mutant replaces one piece of text in one file of a copy of the project and runs the tests that should notice. A
mutant that no test kills, or whose text is no longer in the file, fails the run. The faults are data, in
tests/mutants.toml.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file`; `tests` are pytest's arguments; `interpret` runs them in Triton's interpreter."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]
    interpret: bool = False


def killed(mutant: Mutant, copy: Path) -> str:
    """Apply, test, take back: "killed", or how it survived."""
    path = copy / mutant.file
    before = path.read_text()
    if before.count(mutant.old) != 1:
        return f"the text stands {before.count(mutant.old)} times in {mutant.file}"
    path.write_text(before.replace(mutant.old, mutant.new))
    environment = os.environ | {"PYTHONPATH": str(copy)}
    if mutant.interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests]
    try:
        run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
    finally:
        path.write_text(before)
    if run.returncode == 1:
        return "killed"
    return "survived" if run.returncode == 0 else f"pytest ended with {run.returncode}: {run.stdout[-300:]}"


def main(only: list[str]) -> int:
    mutants = [Mutant(**m) for m in tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["mutant"]]
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "forge"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__"))
        for mutant in mutants:
            if only and not any(word in mutant.name for word in only):
                continue
            began = time.perf_counter()
            outcome = killed(mutant, copy)
            alive += outcome != "killed"
            print(f"{outcome:10} {time.perf_counter() - began:5.1f} s  {mutant.name}", flush=True)
    print(f"{alive} of {len(mutants)} mutants alive")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
