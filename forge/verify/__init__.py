"""Kernels against their ops' oracles: the cases, the comparison, and the ways to execute a launch.

The project's own tests and `forge verify` are the same code with other ways to run a step.
"""

from forge.verify.check import Outcome, build, check, serving
from forge.verify.compare import BOUNDS, compare
from forge.verify.memory import Guarded
from forge.verify.seeded import operands, oracle

__all__ = ["BOUNDS", "Guarded", "Outcome", "build", "check", "compare", "operands", "oracle", "serving"]
