"""The registry of what each instruction computes, written from the words of AMD's ISA documents.

An oracle's signature names what it gives and takes: types in the order of the assembly's operands ("m" is a lane
mask), then what the text leaves out: scc, vcc, exec, and "d.TYPE" for a destination that is read. The function gets
arrays that broadcast to [waves, lanes]: floats as NumPy floats, integers of up to 32 bits as exact int64 (b32 as
wrapping uint32), of 64 bits as wrapping uint64 or int64, masks as bools. It returns the same kinds; the test wraps or
saturates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amdgcn.instructions.text import read_line

ARCHS = ("gfx942", "gfx1100", "gfx1201")


@dataclass(frozen=True)
class Oracle:
    results: tuple[str, ...]
    sources: tuple[str, ...]
    function: Callable
    near: float = 0.0  # the largest error allowed, relative; 0 demands the exact bits, NaNs being equal
    flush: bool = False  # a denormal, read or written, may count as zero
    lanes: int = 16384  # at most so many combinations of edge values
    quiet: bool = False  # no signalling NaN among the inputs
    modified: bool = False  # the function takes the instruction's text first, for modifiers of a meaning of its own


ORACLES: dict[tuple[str, str], Oracle] = {}  # by architecture and line, and by architecture and name without suffix
LINES: list[tuple[str, str]] = []  # (architecture, line)


def oracle(
    signature: str,
    *lines: str,
    cdna=(),
    rdna=(),
    gfx1100=(),
    gfx1201=(),
    gfx11=(),
    **properties,
):
    """Register the decorated function for `lines`: of all architectures, and of some (`gfx11`: cdna and gfx1100).

    A dual instruction is listed at its first half. Where the words leave a result open it is masked (np.ma).
    `properties` are fields of Oracle.
    """
    results, _, sources = signature.partition("=")

    def register(function: Callable) -> Callable:
        made = Oracle(tuple(results.split()), tuple(sources.split()), function, **properties)
        own = {"gfx942": (*cdna, *gfx11), "gfx1100": (*rdna, *gfx1100, *gfx11), "gfx1201": (*rdna, *gfx1201)}
        for arch in ARCHS:
            for line in (*lines, *own[arch]):
                ORACLES.setdefault((arch, read_line(arch, line)[0].name), made)
                ORACLES[arch, line] = made
                LINES.append((arch, line))
        return function

    return register


def also(arch: str, *lines: str) -> None:
    """More lines of instructions that have their oracle."""
    LINES.extend((arch, line) for line in lines)
