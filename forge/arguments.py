"""What callers give, judged by what it is: the one place that says what counts as an integer, a number or a switch.

Each function returns what the argument stands for, or None where it stands for nothing of the kind; whoever asks says
which argument it is and what it should be. None of them raises, whatever it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from numbers import Real
from operator import index
from typing import Any

from forge.errors import UsageError

_LENGTH = 80


def shown(value: object) -> str:
    """`value` for a message: its repr, cut, or its type where that fails, as of an integer of 5,000 digits."""
    try:
        text = repr(value)
    except Exception:
        return f"of the type {type(value).__name__}"
    return text if len(text) <= _LENGTH else text[: _LENGTH - 3] + "..."


def integer(value: object) -> int | None:
    """The int that `value` is, or that a scalar of an array is. A truth value is none, and nothing is rounded."""
    array = getattr(value, "ndim", 0), str(getattr(value, "dtype", ""))
    if isinstance(value, bool) or array[0] != 0 or "bool" in array[1]:
        return None
    try:
        return index(value)  # type: ignore[arg-type]
    except Exception:  # whatever an object raises that says it were an integer
        return None


def number(value: object) -> float | None:
    """The finite float nearest to a number, scalars of NumPy among them. A truth value is none, nor is text."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        found = float(value)
    except Exception:  # an integer beyond the range of floats, for one
        return None
    return found if math.isfinite(found) else None


def listed(value: object) -> tuple[Any, ...] | None:
    """The items of a list, a tuple, an array or what else has an order and no other meaning."""
    if isinstance(value, (str, bytes, bytearray, memoryview, Mapping, Set)) or not isinstance(value, Iterable):
        return None
    try:
        return tuple(value)
    except TypeError:  # an array of no axis says that it were iterable
        return None


def integers(value: object) -> list[int] | None:
    """The ints that `value` lists."""
    items = listed(value)
    found = [] if items is None else [integer(item) for item in items]
    return None if items is None or None in found else [i for i in found if i is not None]


def count(name: str, value: object, low: int, high: int) -> int:
    """An integer of `low` to `high`. Raises UsageError, which names it."""
    found = integer(value)
    if found is None:
        raise wrong(name, value, "an int")
    if not low <= found <= high:
        raise UsageError(f"{name}={shown(value)} is out of range", remedy=f"{low} to {high}")
    return found


def switch(name: str, value: object) -> bool:
    """True or False. Raises UsageError, which names it."""
    if not isinstance(value, bool):
        raise wrong(name, value, "True or False")
    return value


def wrong(name: str, value: object, wanted: str) -> UsageError:
    """The error of an argument that is not of the kind that is `wanted`."""
    return UsageError(f"{name}={shown(value)} is a {type(value).__name__}", remedy=wanted)
