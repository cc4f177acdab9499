"""Every kernel against its op's oracle at every case: on the CPU, in Triton's interpreter, and on a GPU.

Triton decides at import whether it interprets, so the interpreted tier is a run of its own: TRITON_INTERPRET=1.
"""

from __future__ import annotations

import pytest
import torch
from kernels.harness import INTERPRETER

from forge.language import interpreted
from forge.lower.gpu import GPU
from forge.target import TARGETS
from forge.verify import check, serving

HERE = GPU().target if torch.cuda.is_available() else None


def parameters(target, *, every=False):
    return [
        pytest.param(op, case, kernel, id=f"{kernel.id}-{case.name}".replace(" ", "_"))
        for op, case, kernel, _ in serving(target, every=every)
    ]


@pytest.mark.cpu
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
@pytest.mark.parametrize(("op", "case", "kernel"), parameters(TARGETS["cpu"]))
def test_on_the_cpu(op, case, kernel):
    check(op, case, kernel, TARGETS["cpu"], "cpu")


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize(("op", "case", "kernel"), parameters(INTERPRETER))
def test_interpreted(op, case, kernel):
    check(op, case, kernel, INTERPRETER, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(HERE is None or interpreted(), reason="needs a GPU")
@pytest.mark.parametrize(("op", "case", "kernel"), parameters(HERE or TARGETS["sm_90"], every=True))
def test_on_the_gpu(op, case, kernel):
    check(op, case, kernel, HERE, "cuda:0")
