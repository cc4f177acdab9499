"""Memory that could not be had: what torch, its libraries and Python raise then, as one error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from forge.errors import MemoryPlanError

# What is in the message of a plain RuntimeError: of torch's allocator for CPUs, of oneDNN's, and of C++.
MARKS = ("can't allocate memory", "not enough memory", "could not create a memory", "std::bad_alloc")
REMEDY = "a smaller context=, max_tokens= or max_seqs=, or other processes' memory"


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the host or on a device."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in MARKS)


@contextmanager
def memory_told(where: str) -> Iterator[None]:
    """An allocation that fails in the block raises MemoryPlanError; other errors are as they are."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise MemoryPlanError(f"there is no memory left: {error}", where=where, remedy=REMEDY) from error
