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
    """(architecture, name) for each name in every[architecture]: one architecture of CDNA and one of RDNA, in turn."""
    for cdna in (True, False):
        family = {arch: names for arch, names in every.items() if arch.startswith("gfx9") == cdna}
        turn = itertools.cycle(family)
        for name in sorted(set().union(*family.values())):
            yield next(arch for arch in turn if name in family[arch]), name


OPS = load()
INTERPRETER = replace(TARGETS["gfx1100"], arch="interpreter", backend="interpreter")
