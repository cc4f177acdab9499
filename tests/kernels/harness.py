"""What the kernel tests share: the ops, and the interpreter as a target. The rest is `forge.verify`."""

from __future__ import annotations

from dataclasses import replace

from forge.kernels import load
from forge.target import TARGETS

OPS = load()
INTERPRETER = replace(TARGETS["gfx1100"], arch="interpreter", backend="interpreter")
