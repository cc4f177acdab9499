"""Every kernel compiles for AMD architectures, as it would run there, within LDS and without spills.

Each kind of operands does for one of CDNA and one of RDNA in turn; with --full for all six.
"""

from __future__ import annotations

import pytest
from kernels.harness import in_turn, kind_of

from forge.language import interpreted
from forge.lower.launch import Launch
from forge.lower.offline import compile_launch
from forge.lower.select import call_of
from forge.lower.values import type_of
from forge.target import AMD_VERIFIED, TARGETS
from forge.verify import build, operands, serving

pytestmark = [pytest.mark.compile, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


def kinds(arch):
    """One case for each kernel and combination of element types and attributes, by name."""
    found, seen = {}, set()
    for op, case, kernel, call in serving(TARGETS[arch]):
        kind = kind_of(kernel, case, call)
        if kind not in seen:
            seen.add(kind)
            found[f"{kernel.id}-{case.name}".replace(" ", "_")] = op, case, kernel
    return found


def family(every, *, cdna):
    return {arch: found for arch, found in every.items() if arch.startswith("gfx9") == cdna}


def pytest_generate_tests(metafunc):
    every = {arch: kinds(arch) for arch in AMD_VERIFIED}
    if metafunc.config.getoption("full"):
        chosen = [(arch, name) for arch in every for name in every[arch]]
    else:
        chosen = [*in_turn(family(every, cdna=True)), *in_turn(family(every, cdna=False))]
    found = [pytest.param(*every[arch][name], arch, id=f"{arch}-{name}") for arch, name in chosen]
    metafunc.parametrize(("op", "case", "kernel", "arch"), found)


def test_compiles(op, case, kernel, arch):
    values = operands(op, case, "meta")
    call = call_of(op, tuple(type_of(v) for v in values), case.attrs, TARGETS[arch])
    _, steps, _ = build(kernel, call, values, "meta")
    launches = [s for s in steps if isinstance(s, Launch)]
    assert launches or kernel.name.endswith("_library"), "a kernel of a GPU launches something"
    for launch in launches:
        compile_launch(launch, TARGETS[arch]).check(TARGETS[arch])
