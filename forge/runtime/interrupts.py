"""Ctrl-C, held back while something must be done as a whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Held:
    """Presses of Ctrl-C that were held back. While `cut` is set the second one raises KeyboardInterrupt at once."""

    def __init__(self, handler: object) -> None:
        self._handler = handler
        self.cut = False
        self.pressed = 0

    def note(self, number: int, frame: object) -> None:
        self.pressed += 1
        if self.cut and self.pressed == 2 and self._handler is signal.default_int_handler:
            raise KeyboardInterrupt


@contextmanager
def interrupts_held() -> Iterator[Held]:
    """Hold Ctrl-C back until the block is done, and then let whoever handles it have every press.

    Where it is ignored, or handled by nothing of Python's, that stays so. Signals reach only the main thread.
    """
    before = signal.getsignal(signal.SIGINT)
    held = Held(before)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield held
        return
    signal.signal(signal.SIGINT, held.note)
    try:
        yield held
    finally:
        if signal.getsignal(signal.SIGINT) == held.note:  # else the block has set another, which stays
            signal.signal(signal.SIGINT, before)
        for _ in range(held.pressed):
            signal.raise_signal(signal.SIGINT)
