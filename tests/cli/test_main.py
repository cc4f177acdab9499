"""The frame around the verbs: discovery, exit codes, and who hears of an error."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import forge as package
from forge import cli, errors

pytestmark = pytest.mark.null

VERBS = {"bench", "doctor", "dump", "run", "show"}


def _verb(monkeypatch, action):
    """Make `forge fake` do `action`."""
    fake = SimpleNamespace(SUMMARY="a verb", configure=lambda parser: None, run=action, __doc__="")
    monkeypatch.setattr(cli, "verbs", lambda: {"fake": fake})


def _raise(error):
    def action(args):
        raise error

    return action


def test_every_verb_is_found_and_explains_itself(forge):
    assert set(cli.verbs()) >= VERBS
    listed = forge("--help").out
    for name, module in cli.verbs().items():
        assert module.SUMMARY in listed
        help_text = forge(name, "--help")
        assert help_text.code == 0 and module.__doc__.splitlines()[0] in help_text.out


def test_version(forge):
    assert forge("--version").out.strip() == f"forge {package.__version__}"


@pytest.mark.parametrize("argv", [(), ("nonsense",), ("show", "--no-such-flag"), ("dump",)])
def test_usage_that_argparse_refuses_is_2(forge, argv):
    result = forge(*argv)
    assert result.code == 2 and result.out == "" and "usage:" in result.err


def test_bench_without_a_subject_says_which_there_are(forge):
    result = forge("bench")
    assert result.code == 2 and result.out == "" and "--emulate ARCH" in result.err


def _families(cls):
    yield cls
    for sub in cls.__subclasses__():
        if sub.__module__ == errors.__name__:
            yield from _families(sub)


@pytest.mark.parametrize("kind", list(_families(errors.ForgeError)), ids=lambda k: k.__name__)
def test_an_error_of_ours_ends_with_its_code_and_says_all_three_parts(forge, monkeypatch, kind):
    error = kind.__new__(kind)
    errors.ForgeError.__init__(error, "it broke", where="byte 7", remedy="mend it")
    _verb(monkeypatch, _raise(error))
    result = forge("fake")
    assert result.code == kind.exit_code and result.out == ""
    assert all(part in result.err for part in ("it broke", "byte 7", "mend it")) and "Traceback" not in result.err
    assert "Traceback" in forge("fake", "--debug").err


def test_a_defect_is_70_and_its_traceback_is_for_those_who_ask(forge, monkeypatch):
    _verb(monkeypatch, _raise(IndexError("list index out of range")))
    result = forge("fake")
    assert result.code == 70 and "IndexError: list index out of range" in result.err and "--debug" in result.err
    assert "Traceback" not in result.err
    assert "Traceback" in forge("fake", "--debug").err


def test_interrupted_is_130(forge, monkeypatch):
    _verb(monkeypatch, _raise(KeyboardInterrupt()))
    assert forge("fake").code == 130


def test_help_imports_no_torch():
    code = "import sys; from forge.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 0


def test_a_reader_that_goes_away_is_no_error_of_ours():
    code = "import sys; from forge.cli import main; sys.exit(main(['--version']) or main(['fake']))"
    fake = (
        "import forge.cli as c, types; c.verbs = lambda: {'fake': types.SimpleNamespace("
        "SUMMARY='', configure=lambda p: None, run=lambda a: print('x' * 100000) or 0)}; "
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", fake + code.replace("main(['--version']) or ", "")],
                          stdout=write, stderr=subprocess.PIPE, timeout=60)  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")
