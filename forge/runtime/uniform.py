"""u(seed, index, i) in (0, 1): the random number of output position i, a function of nothing else.

Philox (Salmon et al., SC 2011) is counter-based: any position can be reached directly, so a request that is preempted,
batched with others or resumed draws the same numbers.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 64  # numbers made at a time
_PER_COUNTER = 4  # Philox-4x64 gives four words a counter value


class Uniforms:
    """The numbers of one sequence: `seed` in [0, 2**64), `index` the number of the sample among a request's n."""

    __slots__ = ("_block", "_key", "_values")

    def __init__(self, seed: int, index: int = 0) -> None:
        self._key = seed | (index << 64)
        self._block = -1
        self._values: list[float] = []

    def at(self, position: int) -> float:
        """The number of output position `position`. Forty random bits, at least 2**-41 away from 0 and from 1."""
        block, offset = divmod(position, _BLOCK)
        if block != self._block:
            raw = np.random.Philox(key=self._key, counter=block * (_BLOCK // _PER_COUNTER)).random_raw(_BLOCK)
            self._values = ((raw >> np.uint64(24)).astype(np.float64) * 2.0**-40 + 2.0**-41).tolist()
            self._block = block
        return self._values[offset]
