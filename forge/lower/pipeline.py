"""The graph's passes, told of the ops there are, and the time that they are given."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from forge.graph.ir import Value
from forge.graph.passes import Options
from forge.kernels import load
from forge.kernels.quantize_q8 import quantize_q8
from forge.kernels.views import columns


def options(activations: str = "float") -> Options:
    """What passes need to know; `activations`, before quantized weights, is "float", "a8" or "a16"."""

    def quantize(x: Value) -> Value:
        made: Value = quantize_q8(x, residual=activations == "a16")
        return made

    return Options(load(), columns, None if activations == "float" else quantize)


@contextmanager
def uncollected() -> Iterator[None]:
    """While this lasts, Python looks for no garbage: a growing graph has none, and each look walks all its nodes."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
