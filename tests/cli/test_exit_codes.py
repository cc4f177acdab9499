"""Faults 15: exit code 70, "a defect of Forge", is for defects; what happens on ordinary machines has codes of its own.

The bound: standard streams full, closed or of a poor encoding, packages that cannot be imported, Python's -O, -OO.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from forge import cli

pytestmark = pytest.mark.cpu

ROOT = Path(__file__).parents[2]
SHOW = ("show", "--target", "cpu", "--context", "64")


def shell(line: str, *flags: str, **environment: str) -> subprocess.CompletedProcess:
    """`line` in a shell, with $FORGE for the command; `flags` are Python's."""
    forge = " ".join([sys.executable, *flags, "-m", "forge"])
    settings = os.environ | {"PYTHONPATH": str(ROOT), "FORGE": forge} | environment
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, env=settings)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$FORGE dump --after built > /dev/full", 1),
        ("$FORGE dump --after built >&-", 1),
        ("$FORGE dump --after built 2> /dev/full", 0),
        ("$FORGE dump --after built 2>&-", 0),
        ("$FORGE dump --after built <&- 2>&-", 0),
        ("$FORGE show no-such-file.gguf 2>&-", 3),
        ("$FORGE show no-such-file.gguf 2> /dev/full", 3),
        ("$FORGE dump no-such-file.gguf --plan <&- >&- 2>&-", 3),
    ],
)
def test_a_stream_that_is_full_or_closed_is_no_defect(line, code):
    done = shell(line)
    assert done.returncode == code and "defect" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    if code == 1:
        assert "the output cannot be written" in done.stderr


def test_a_poor_encoding_loses_no_output(tmp_path):
    done = shell(f"$FORGE run -p 'é' --max-tokens 1 --target cpu --context 64 && $FORGE show {tmp_path}/é.gguf",
                 PYTHONIOENCODING="ascii")  # fmt: skip
    assert done.returncode == 3 and "\\xe9.gguf" in done.stderr and "defect" not in done.stderr


@pytest.mark.parametrize("package", ["torch", "numpy", "gguf", "tokenizers"])
def test_a_package_that_cannot_be_imported_is_5_and_named(tmp_path, package):
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('no {package}', name='{package}')")
    done = shell("$FORGE run -p x --max-tokens 1", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 5 and f"pip install {package}" in done.stderr and "defect" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImportError("libtorch.so: cannot open shared object file", name="torch._C"), 5),
        (ImportError("cannot import name 'x'", name="forge.api"), 70),
        (PermissionError(13, "Permission denied", "/root/x"), 1),
        (OSError(24, "Too many open files"), 1),
        (OSError(28, "No space left on device", "/tmp/kernel"), 1),
        (OSError("of no number"), 70),
        (ValueError("x"), 70),
    ],
)
def test_what_the_machine_says_is_told_from_what_is_ours(forge, monkeypatch, error, code):
    def action(args):
        raise error

    fake = SimpleNamespace(SUMMARY="", configure=lambda parser: None, run=action, __doc__="")
    monkeypatch.setattr(cli, "verbs", lambda: {"fake": fake})
    result = forge("fake")
    assert result.code == code and ("defect" in result.err) == (code == 70)


@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_without_asserts_and_docstrings_everything_runs(flag):
    done = shell("$FORGE --help && $FORGE run -p 'import os' --max-tokens 2 --target cpu --context 64 && "
                 "$FORGE verify --op swiglu --target cpu", flag)  # fmt: skip
    assert done.returncode == 0, done.stderr
