"""Every kernel's AMD code objects, executed: launched as on the device, at small cases, against the op's oracle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernels.harness import kind_of

from forge.amdgcn.bridge import Emulated
from forge.amdgcn.emulate import Emulation
from forge.language import interpreted
from forge.target import AMD_VERIFIED, TARGETS
from forge.verify import check, serving

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

WHOLE = ("gfx942", "gfx1100", "gfx1201")  # every small case; of the other architectures one case a kind of operands


def parameters() -> Iterator[pytest.param]:
    """Kernels, cases and architectures; not the kernels that are a library's."""
    for arch in AMD_VERIFIED:
        seen = set()
        for op, case, kernel, call in serving(TARGETS[arch]):
            if not case.small or kernel.name.endswith("_library"):
                continue
            kind = kind_of(kernel, case, call)
            if arch in WHOLE or kind not in seen:
                seen.add(kind)
                name = f"{arch}-{kernel.id}-{case.name}".replace(" ", "_")
                yield pytest.param(op, case, kernel, arch, id=name)


@pytest.mark.parametrize(("op", "case", "kernel", "arch"), list(parameters()))
def test_emulated(op, case, kernel, arch):
    device = Emulated(TARGETS[arch])
    outcome = check(op, case, kernel, device.target, "cpu", lambda task: device.prepare(task)())
    assert any(isinstance(t, Emulation) and t.instructions for t in outcome.tasks)
