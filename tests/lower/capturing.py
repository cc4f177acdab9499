"""A CPU with graphs of launches, so that the logic of replays is exercised without a GPU."""

from __future__ import annotations

from forge.lower.device import CPU, Captured


class Capturing(CPU):
    """A CPU with graphs of launches: a graph runs its calls, unless `fault` makes another of them.

    `prepared`, `captured` and `replayed` count what it was asked for.
    """

    name, captures = "capturing", True

    def __init__(self, fault=lambda calls: calls, nbytes=10):
        super().__init__()
        self.fault, self.nbytes = fault, nbytes
        self.prepared = self.captured = self.replayed = 0

    def prepare(self, task):
        self.prepared += 1
        return super().prepare(task)

    def capture(self, calls):
        self.captured += 1
        graph = self.fault(list(calls))

        def replay():
            self.replayed += 1
            for call in graph:
                call()

        return Captured(replay, self.nbytes)
