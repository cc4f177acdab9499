"""Every kernel's AMD code objects, executed: launched as on the device, at each small case, against the op's oracle."""

from __future__ import annotations

import pytest

from forge.amdgcn.emulate import Emulation, emulate
from forge.kernels.launch import Launch
from forge.language import interpreted
from forge.target import TARGETS
from forge.verify import check, serving

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

WHOLE = ("gfx942", "gfx1100", "gfx1201")


def parameters():
    """Each kernel, case and architecture; not the kernels that are a library's."""
    return [
        pytest.param(op, case, kernel, arch, id=f"{arch}-{kernel.id}-{case.name}".replace(" ", "_"))
        for arch in WHOLE
        for op, case, kernel, _ in serving(TARGETS[arch])
        if case.small and not kernel.name.endswith("_library")
    ]


@pytest.mark.parametrize(("op", "case", "kernel", "arch"), parameters())
def test_emulated(op, case, kernel, arch):
    target = TARGETS[arch]
    outcome = check(
        op, case, kernel, target, "cpu", lambda step: emulate(step, target) if isinstance(step, Launch) else step()
    )
    assert any(isinstance(step, Emulation) and step.instructions for step in outcome.steps)
