"""Deliberate faults, each of which a test must see: `make mutants`.

Every mutant replaces one piece of text in one file of a copy of the project and runs the tests that should notice. A
mutant that no test kills, or whose text is no longer in the file, fails the run; so does one whose tests fail without
it, as they would kill anything. The faults are data, in tests/mutants.toml. Words given as arguments choose by name or
file: `python tests/mutants.py forge/amdgcn forge/verify` makes those of the emulator.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 300  # seconds for the tests of one mutant


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file`; `tests` are pytest's arguments; `interpret` runs them in Triton's interpreter."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]
    interpret: bool = False


@cache
def broken_anyway(tests: tuple[str, ...], interpret: bool, copy: Path) -> str:
    """Why these tests can say nothing of a fault, as they do not pass without one; else ""."""
    code, told = pytest(tests, interpret, copy)
    return "" if code == 0 else f"without it pytest ends with {code}: {told}"


def pytest(tests: tuple[str, ...], interpret: bool, copy: Path) -> tuple[int, str]:
    """(exit code, the first test that failed or else the end of what pytest printed)."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", *tests]
    try:
        run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return -1, f"not done after {LIMIT} s"
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", run.stdout, re.MULTILINE)
    return run.returncode, failed[1] if failed else run.stdout[-300:]


def outcome(mutant: Mutant, copy: Path) -> tuple[bool, str]:
    """Apply, test, take back: whether it was killed, and by which test or why not."""
    path, tests = copy / mutant.file, tuple(mutant.tests)
    before = path.read_text() if path.exists() else ""
    if before.count(mutant.old) != 1:
        return False, f"its text stands {before.count(mutant.old)} times in {mutant.file}"
    broken = broken_anyway(tests, mutant.interpret, copy)
    if broken:
        return False, broken
    path.write_text(before.replace(mutant.old, mutant.new))
    try:
        code, told = pytest(tests, mutant.interpret, copy)
    finally:
        path.write_text(before)
    return code == 1, told if code == 1 else f"pytest ended with {code}: {told}"


def main(only: list[str]) -> int:
    mutants = [Mutant(**m) for m in tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["mutant"]]
    mutants = [m for m in mutants if not only or any(word in m.name or word in m.file for word in only)]
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "forge"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__"))
        for mutant in mutants:
            began = time.perf_counter()
            killed, told = outcome(mutant, copy)
            alive += not killed
            seconds = time.perf_counter() - began
            how = f"killed by {told}" if killed else f"ALIVE: {told}"
            print(f"{seconds:5.1f} s  {mutant.name} ({mutant.file})\n         {how}", flush=True)
    print(f"{alive} of {len(mutants)} mutants alive")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
