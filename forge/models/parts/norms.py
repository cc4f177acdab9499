"""Norms with a weight of the model."""

from __future__ import annotations

from forge.graph.ir import Value
from forge.kernels.rms_norm import rms_norm
from forge.models.builder import Builder


def norm(b: Builder, name: str, x: Value, width: int, eps: float) -> Value:
    """RMSNorm of rows, or of the heads of rows: the tensor `name`.weight [width]. Source: arXiv 1910.07467."""
    return rms_norm(x, b.weights.vector(f"{name}.weight", width), eps=eps, out=b.precision.act)


def post_norm(b: Builder, name: str, y: Value, width: int, eps: float) -> Value:
    """The same of what a part gives, before it is added to the residual stream, and in that stream's type.

    Gemma's norms here have weights that make more of it than f16 holds.
    """
    return rms_norm(y, b.weights.vector(f"{name}.weight", width), eps=eps, out=b.precision.residual)
