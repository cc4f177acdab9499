"""What memory a model takes, beside what its device has free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# What makes the total, by the fields of `Budget`, and the names in which it is shown.
PARTS = {
    "weights": "weights",
    "pages": "KV pages",
    "slots": "sequences' state",
    "activations": "activations",
    "scratch": "scratch",
    "graphs": "captured graphs",
}
SELDOM = ("slots", "graphs")  # parts that only some models have


@dataclass(frozen=True)
class Budget:
    """What memory a model takes at its limits, in bytes, beside what the device has free."""

    weights: int
    pages: int
    activations: int
    scratch: int
    free: int
    slots: int = 0  # state of which each sequence has one
    graphs: int = 0  # steps captured as graphs of launches

    @property
    def parts(self) -> dict[str, int]:
        """What makes the total, by field."""
        return {part: getattr(self, part) for part in PARTS}

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    def __str__(self) -> str:
        shown = " + ".join(f"{name} {nbytes / 1e6:,.1f} MB" for name, nbytes in named(self.parts).items())
        return f"{shown} = {self.total / 1e6:,.1f} MB of {self.free / 1e6:,.1f} MB free"


def named(parts: Mapping[str, int]) -> dict[str, int]:
    """The parts among these by the names in which they are shown, without what a model has none of."""
    return {name: parts[part] for part, name in PARTS.items() if parts[part] or part not in SELDOM}
