"""Test set-up: the tests folder is importable, so that areas share their harness; and no test is skipped unnoticed."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# CI tries the same examples each time; at a desk new ones are drawn.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# A test may be skipped for one of these reasons and no other: a missing package, for one, fails the run.
REASONS = (
    "needs a GPU",
    "needs TRITON_INTERPRET=1",
    "this is the interpreted run",
    "needs FORGE_LLAMA_CPP_VOCABULARIES: llama.cpp's folder models/, 76 MB",
)
_unexpected: list[str] = []


def pytest_addoption(parser):
    parser.addoption(
        "--full", action="store_true", help="kernels' code emulated at every case, not at a sample of them"
    )


def pytest_collection_finish(session):
    """What thousands of parameters hold lives to the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason not in REASONS:
            _unexpected.append(f"{report.nodeid}: {reason}")


def pytest_collectreport(report):
    if report.skipped:
        _unexpected.append(f"{report.nodeid}: {report.longrepr}")


def pytest_sessionfinish(session, exitstatus):
    if _unexpected and exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    for line in _unexpected:
        terminalreporter.line(f"SKIPPED FOR NO GOOD REASON {line}", red=True)


@pytest.fixture
def unregistered():
    """What the test registers is taken back when it is done."""
    from forge.extensions import EXTENSIONS

    undo = EXTENSIONS.mark()
    yield
    undo()


@pytest.fixture
def one_thread():
    """Small products on a busy machine: torch's threads would wait for each other longer than they compute."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
