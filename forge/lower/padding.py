"""Padding a step to one of the planned sizes, so that a GPU compiles and prepares few variants."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from forge.lower.sizes import Sizes, padded


def pad(
    inputs: Mapping[str, np.ndarray], symbols: Mapping[str, str], bounds: Sizes, fill: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Inputs with their first axes padded to the least planned sizes that hold them.

    `symbols` names the symbol of each input's first axis, `bounds` each symbol's maximum, and `fill` what a padded
    entry of each input holds.
    """
    sizes = padded({symbols[name]: len(value) for name, value in inputs.items()}, bounds)
    out = {}
    for name, value in inputs.items():
        size = sizes[symbols[name]]
        if size != len(value):
            longer = np.full((size, *value.shape[1:]), fill[name], value.dtype)
            longer[: len(value)] = value
            value = longer
        out[name] = value
    return out
