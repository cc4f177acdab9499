"""Every kernel's AMD code objects, executed: launched as on the device, at small cases, against the op's oracle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernels.harness import in_turn, kind_of

from forge.amdgcn.bridge import Emulated
from forge.amdgcn.emulate import Emulation
from forge.language import interpreted
from forge.target import AMD_VERIFIED, TARGETS
from forge.verify import check, serving

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

WHOLE = ("gfx942", "gfx1100", "gfx1201")  # with --full every small case; of the others one a kind of operands


def sampled() -> Iterator[pytest.param]:
    """Every small case on one architecture, in turn."""
    every = {arch: small(arch) for arch in AMD_VERIFIED}
    return (param(arch, name, every[arch][name]) for arch, name in in_turn(every))


def full() -> Iterator[pytest.param]:
    for arch in AMD_VERIFIED:
        seen = set()
        for name, (op, case, kernel, call) in small(arch).items():
            kind = kind_of(kernel, case, call)
            if arch in WHOLE or kind not in seen:
                seen.add(kind)
                yield param(arch, name, (op, case, kernel, call))


def small(arch):
    """The small cases of the kernels that are no library's, by name."""
    every = serving(TARGETS[arch])
    return {
        f"{kernel.id}-{case.name}".replace(" ", "_"): (op, case, kernel, call)
        for op, case, kernel, call in every
        if case.small and not kernel.name.endswith("_library")
    }


def param(arch, name, found):
    op, case, kernel, _ = found
    return pytest.param(op, case, kernel, arch, id=f"{arch}-{name}")


def pytest_generate_tests(metafunc):
    every = full() if metafunc.config.getoption("full") else sampled()
    metafunc.parametrize(("op", "case", "kernel", "arch"), list(every))


def test_emulated(op, case, kernel, arch):
    device = Emulated(TARGETS[arch])
    outcome = check(op, case, kernel, device.target, "cpu", lambda task: device.prepare(task)())
    assert any(isinstance(t, Emulation) and t.instructions for t in outcome.tasks)
