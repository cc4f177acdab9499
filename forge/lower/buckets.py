"""Padding a step to one of few sizes, so that a GPU compiles and prepares few variants.

Padded tokens write no keys (slot -1), belong to no sequence (padded sequences have query_len 0), and their logits are
cut off. Sizes are powers of two up to 64 and multiples of 64 beyond.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

STEP = 64

# What a padded entry of each input holds; inputs not named are padded with 0.
FILL = {"slots": -1}


def bucket(size: int, most: int) -> int:
    """The least prepared size that holds `size`, at most `most`."""
    rounded = 1 << (size - 1).bit_length() if size <= STEP else -(-size // STEP) * STEP
    return min(rounded, most)


def pad(
    inputs: Mapping[str, np.ndarray], symbols: Mapping[str, str], bounds: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Inputs with their first axis padded to its bucket.

    `symbols` names the symbol of each input's first axis and `bounds` each symbol's maximum.
    """
    out = {}
    for name, value in inputs.items():
        size = bucket(len(value), bounds[symbols[name]])
        if size != len(value):
            padded = np.full((size, *value.shape[1:]), FILL.get(name, 0), value.dtype)
            padded[: len(value)] = value
            value = padded
        out[name] = value
    return out
