"""Padding a step to one of the planned sizes, so that a GPU compiles and prepares few variants.

Padded tokens write no keys (slot -1), belong to no sequence (padded sequences have query_len 0), and their logits are
cut off.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from forge.lower.sizes import Sizes, padded

# What a padded entry of each input holds; inputs not named are padded with 0.
FILL = {"slots": -1}


def pad(inputs: Mapping[str, np.ndarray], symbols: Mapping[str, str], bounds: Sizes) -> dict[str, np.ndarray]:
    """Inputs with their first axes padded to the least planned sizes that hold them.

    `symbols` names the symbol of each input's first axis and `bounds` each symbol's maximum.
    """
    sizes = padded({symbols[name]: len(value) for name, value in inputs.items()}, bounds)
    out = {}
    for name, value in inputs.items():
        size = sizes[symbols[name]]
        if size != len(value):
            longer = np.full((size, *value.shape[1:]), FILL.get(name, 0), value.dtype)
            longer[: len(value)] = value
            value = longer
        out[name] = value
    return out
