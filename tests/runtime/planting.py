"""Exceptions planted at the calls of a step: whichever function of the runtime is entered may raise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import forge.runtime

_FOLDER = str(Path(forge.runtime.__file__).parent)
# What steps are made of, and what a step enters last: a fault there is the caller's, not one within a step.
_OUTSIDE = {"step", "_report", "__exit__", "__enter__"}


def traced(step: Callable[[], Any], seen: Callable[[CodeType], None]) -> Any:
    """Make a step; `seen` is told each function of the runtime, or of this folder, as it is entered, and may raise."""

    def enter(frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        if event == "call" and _within(code.co_filename) and code.co_name not in _OUTSIDE:
            seen(code)

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        return step()
    finally:
        sys.settrace(before)


def _within(path: str) -> bool:
    return path.startswith(_FOLDER) or path.endswith("fake_lm.py")
