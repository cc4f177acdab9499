"""What other threads do soon."""

from __future__ import annotations

import time
from collections.abc import Callable


def soon(happened: Callable[[], bool]) -> bool:
    """Whether it happens within 5 seconds."""
    deadline = time.monotonic() + 5
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.002)
    return happened()
