"""What the kernel tests share: the ops, and the interpreter as a target. The rest is `forge.verify`."""

from __future__ import annotations

import itertools
from dataclasses import replace

from forge.kernels import load
from forge.target import TARGETS


def kind_of(kernel, case, call):
    """What tells the code of a kernel's cases apart: element types and attributes, but no sizes."""
    return kernel.id, tuple(t and t.dtype.name for t in call.types), tuple(sorted(case.attrs.items()))


def in_turn(every):
    """(architecture, name) for each name in every[architecture]: the architectures take turns."""
    turn = itertools.cycle(every)
    for name in sorted(set().union(*every.values())):
        yield next(arch for arch in turn if name in every[arch]), name


OPS = load()
INTERPRETER = replace(TARGETS["gfx1100"], arch="interpreter", backend="interpreter")
