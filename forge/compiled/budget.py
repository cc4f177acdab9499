"""What memory a model takes, beside what its device has free."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """What memory a model takes at its limits, in bytes, beside what the device has free."""

    weights: int
    pages: int
    arena: int
    scratch: int
    free: int
    slots: int = 0  # state of which each sequence has one
    graphs: int = 0  # steps captured as graphs of launches

    @property
    def total(self) -> int:
        return self.weights + self.pages + self.slots + self.arena + self.scratch + self.graphs

    def __str__(self) -> str:
        parts = {"weights": self.weights, "KV pages": self.pages}
        if self.slots:
            parts["sequences' state"] = self.slots
        parts |= {"activations": self.arena, "scratch": self.scratch}
        if self.graphs:
            parts["captured graphs"] = self.graphs
        shown = " + ".join(f"{n} {v / 1e6:,.1f} MB" for n, v in parts.items())
        return f"{shown} = {self.total / 1e6:,.1f} MB of {self.free / 1e6:,.1f} MB free"
