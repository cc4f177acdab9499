"""Whose process it is: what has threads and locks does not live through a fork."""

from __future__ import annotations

import os

from forge.errors import UsageError


class Home:
    """The process in which something was made."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is the process; false in a child that was forked from it."""
        return os.getpid() == self._pid

    def check(self, what: str) -> None:
        """Raise UsageError in a forked child, where the threads are gone that would do the work, or hold a lock."""
        if not self.here:
            raise UsageError(
                f"{what} was made in process {self._pid}, and this is {os.getpid()}, forked from it",
                remedy="make it in the process that uses it; multiprocessing's start method 'spawn' forks nothing",
            )
