"""free + used = total: slots for state of which a sequence has one, whatever its length.

A slot that is taken is zero for a new sequence, or a copy of another slot for a fork. Neither is done here: `copies`
and `cleared` say what must be done before the next step, and `settle` that it was.
"""

from __future__ import annotations

from forge.errors import UsageError

SlotCopy = tuple[int, int]


class SlotPool:
    """Owns every slot. `copies` and `cleared` are meant at once: every source is what it was before any of them.

    Not thread-safe: one thread owns the pool.
    """

    def __init__(self, total: int) -> None:
        if total < 1:
            raise UsageError(f"a pool of {total} slots is not possible", remedy="give at least one slot")
        self.total = total
        self.reset()

    def reset(self) -> None:
        """Every slot is free, whoever had it."""
        self._free = list(range(self.total - 1, -1, -1))
        self._becomes: dict[int, int | None] = {}  # slot -> whose state it is to hold; None for zeros

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        return self.total - len(self._free)

    @property
    def copies(self) -> list[SlotCopy]:
        """(source, destination); a source may be a destination too, or be cleared."""
        return [(source, slot) for slot, source in self._becomes.items() if source is not None]

    @property
    def cleared(self) -> list[int]:
        """Slots that begin at zero; none is a destination."""
        return [slot for slot, source in self._becomes.items() if source is None]

    def allocate(self) -> int:
        """A slot that nobody holds, to be cleared; the caller has checked `free`."""
        slot = self._free.pop()
        self._becomes[slot] = None
        return slot

    def fork(self, slot: int) -> int:
        """A slot that is to hold what `slot` does; the caller has checked `free`."""
        copy = self._free.pop()
        # What `slot` itself waits for is not there yet.
        self._becomes[copy] = self._becomes.get(slot, slot)
        return copy

    def release(self, slot: int) -> None:
        """Give a slot back."""
        assert slot not in self._free, f"slot {slot} is released twice"
        self._becomes.pop(slot, None)
        self._free.append(slot)

    def settle(self) -> None:
        """The copies and clearings are done."""
        self._becomes.clear()
