"""Dependent launches: a kernel is started while the launch before it ends, and waits where it needs what that made.

Every program calls `wait_for_earlier` once, before it reads or writes anything that an earlier launch of the step may
write or read, and before it may return. What no launch writes, the weights, may be loaded before. A body that has the
parameter DEPENDENT is launched so where the target can (`Site.launch`); elsewhere it is an ordinary one.

Source: CUDA's programming guide, "programmatic dependent launch"; PTX ISA, griddepcontrol.
"""

from __future__ import annotations

from forge.language import jit, tl

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:  # no Triton, or one without NVIDIA's part: DEPENDENT is then never true
    gdc_launch_dependents = gdc_wait = None


@jit
def wait_for_earlier(DEPENDENT: tl.constexpr):
    """Wait until earlier launches are complete and what they wrote is seen; then let the next launch start."""
    if DEPENDENT:
        gdc_wait()
        gdc_launch_dependents()
