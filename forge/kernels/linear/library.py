"""The steps of `linear` by cuBLAS or hipBLASLt: what is not fp16 is dequantized to it first, a part at a time."""

from __future__ import annotations

from forge.graph.types import tensor
from forge.kernels.dequantize import dequantize_rows
from forge.quant.packed import Packed

WORKSPACE = 256 << 20  # bytes of dequantized weights at a time


def _rows(n, k):
    """Rows of the weight dequantized at a time."""
    return max(1, min(n, WORKSPACE // (2 * k)))


def workspace(call, config):
    (t, k), (n, _) = call.types[0].concrete(), call.types[1].concrete()
    weights = tensor("f16", _rows(n, k), k) if call.types[1].dtype.quantized else tensor("f16", 0, k)
    activations = tensor("f16", t, k) if call.types[0].dtype.quantized else tensor("f16", 0, k)
    return weights, activations


def steps(site, y, x, w):
    """x w^T to y, all in fp16 or a block type."""
    weights, activations = site.work
    done = []
    if isinstance(x, Packed):
        done.append(dequantize_rows(site, activations, x, 0))
        x = activations
    if not isinstance(w, Packed):
        return [*done, _product(x, w, y)]
    for start in range(0, w.shape[0], weights.shape[0]):
        part = weights[: w.shape[0] - start]
        done.append(dequantize_rows(site, part, w, start))
        done.append(_product(x, part, y[:, start : start + part.shape[0]]))
    return done


def _product(x, w, y):
    import torch

    columns = w.t()
    return lambda: torch.mm(x, columns, out=y)
