"""SlotPool: what slots are to hold, whatever happens before the copies and clearings are done."""

from __future__ import annotations

import pytest

from forge.errors import UsageError
from forge.runtime.pages import PagePool
from forge.runtime.scheduler import Scheduler
from forge.runtime.slots import SlotPool

pytestmark = pytest.mark.null


def _settled(pool: SlotPool, held: dict[int, str]) -> dict[int, str]:
    """What slots hold after the changes, all of which read what was there before."""
    after = held | {to: held[source] for source, to in pool.copies} | dict.fromkeys(pool.cleared, "zero")
    assert not {to for _, to in pool.copies} & set(pool.cleared)
    pool.settle()
    return after


def test_a_slot_s_copy_survives_the_slot():
    """The parent ends and its slot is taken by a new sequence, and by a fork of another, before anything is copied."""
    pool = SlotPool(4)
    first, second = pool.allocate(), pool.allocate()
    held = _settled(pool, dict.fromkeys(range(4), "junk"))
    assert held[first] == held[second] == "zero"
    held |= {first: "A", second: "B"}
    child = pool.fork(first)
    grandchild = pool.fork(child)
    pool.release(first)
    assert pool.fork(second) == first
    pool.release(child)
    new = pool.allocate()
    held = _settled(pool, held)
    assert (held[first], held[second], held[grandchild], held[new]) == ("B", "B", "A", "zero")
    assert pool.used == 4 and pool.free == 0 and not pool.copies and not pool.cleared


def test_what_is_not_possible_is_refused():
    with pytest.raises(UsageError, match="0 slots"):
        SlotPool(0)
    with pytest.raises(UsageError, match="3 slots for 4"):
        Scheduler(PagePool(4), max_tokens=8, max_seqs=4, context_length=8, slots=SlotPool(3))
