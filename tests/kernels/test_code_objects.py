"""Every kernel compiles for each AMD architecture, as it would run there, within LDS and without spills."""

from __future__ import annotations

import pytest
from kernels.harness import kind_of

from forge.language import interpreted
from forge.lower.launch import Launch
from forge.lower.offline import compile_launch
from forge.lower.select import call_of
from forge.lower.values import type_of
from forge.target import AMD_VERIFIED, TARGETS
from forge.verify import build, operands, serving

pytestmark = [pytest.mark.compile, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


def parameters():
    """One case for each kernel, architecture and combination of element types and attributes."""
    found = []
    for arch in AMD_VERIFIED:
        seen = set()
        for op, case, kernel, call in serving(TARGETS[arch]):
            key = kind_of(kernel, case, call)
            if key not in seen:
                seen.add(key)
                name = f"{arch}-{kernel.id}-{case.name}".replace(" ", "_")
                found.append(pytest.param(op, case, kernel, arch, id=name))
    return found


@pytest.mark.parametrize(("op", "case", "kernel", "arch"), parameters())
def test_compiles(op, case, kernel, arch):
    values = operands(op, case, "meta")
    call = call_of(op, tuple(type_of(v) for v in values), case.attrs, TARGETS[arch])
    _, steps, _ = build(kernel, call, values, "meta")
    launches = [s for s in steps if isinstance(s, Launch)]
    assert launches or kernel.name.endswith("_library"), "a kernel of a GPU launches something"
    for launch in launches:
        compile_launch(launch, TARGETS[arch]).check(TARGETS[arch])
