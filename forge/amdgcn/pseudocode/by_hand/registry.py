"""How an instruction is written by hand, and the results that such functions have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from forge.amdgcn.numbers.arithmetic import Array
from forge.amdgcn.pseudocode.meaning import Meaning, Output

Run = Callable[..., tuple[Array, ...]]

F16, F32, F64 = (Output("D0", bits, float=True) for bits in (16, 32, 64))
D16, D32, D64 = (Output("D0", bits) for bits in (16, 32, 64))
LANES, SCC = Output("VCC", 1, per_lane_bit=True), Output("SCC", 1)


class Registry(dict[str, Meaning]):
    """Meanings by mnemonic. A module has one, calls it as a decorator, and changes it no more."""

    def __call__(self, *names: str, outputs: tuple[Output, ...], wide: str = "") -> Callable[[Run], Run]:
        """Registers a function under its mnemonics; its parameters are its inputs, `wide` lists those of 64 bits."""

        def register(run: Run) -> Run:
            inputs = tuple(inspect.signature(run).parameters)
            masks = {"VCC", "EXEC", *wide.split()}
            widths = tuple(64 if name in masks else 32 for name in inputs)
            for name in names:
                assert name not in self, name
                self[name] = Meaning(name, inputs, outputs, run, f"{run.__module__}.{run.__qualname__}", widths)
            return run

        return register


def field(value: Any) -> int:
    """A field of the encoding, which comes as uint32[1, 1], as a number."""
    return int(value.item())
