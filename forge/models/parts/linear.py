"""A product with a matrix of the model, and its bias."""

from __future__ import annotations

from forge.graph.ir import Value
from forge.kernels.linear import linear
from forge.models.builder import Builder


def project(
    b: Builder, name: str, x: Value, rows: int, columns: int, *, bias: bool = False, out: str | None = None
) -> Value:
    """y[T,rows] = x[T,columns] W^T + bias: the tensors `name`.weight [rows,columns] and `name`.bias [rows].

    Of the type `out`, by default that which kernels multiply.
    """
    added = b.weights.vector(f"{name}.bias", rows) if bias else None
    return linear(x, b.weights.matrix(f"{name}.weight", rows, columns), added, out=out or b.precision.act)
