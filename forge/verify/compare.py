"""Relative error against an oracle, within the bounds of the result's type."""

from __future__ import annotations

from typing import Any

import torch

from forge.errors import NumericsError, UnsupportedError
from forge.lower.values import type_of
from forge.quant import cells, dense
from forge.quant.packed import Packed

# Bounds on |got - ref| / max(|ref|, rms(ref)) by the result's type: the maximum and the root mean square.
BOUNDS = {"f32": (2e-5, 2e-6), "f16": (4e-3, 6e-4), "bf16": (3e-2, 5e-3)}
# Of codes that a fused op makes of numbers which it rounds to f16 or bf16 before: another rounding is another code.
FUSED_CODES = {"a8": (1e-1, 1e-2), "a16": (3e-2, 5e-3), "i8": (1e-1, 1e-2), "e4m3": (2e-1, 2e-2)}


def compare(got: Any, ref: torch.Tensor, label: str, *, fused: bool = False, rounds: str | None = None) -> float:
    """The largest relative error of `got`. Raises NumericsError beyond BOUNDS, or where NaN or infinity differ.

    Integers must be equal. `got` may be Packed, or pages of codes: what they stand for is compared, as f32, or that of
    a `fused` op within FUSED_CODES. What was computed with operands that are rounded to the type `rounds` has that
    type's bounds, where these are wider. Raises UnsupportedError for a floating type without bounds.
    """
    result = got
    type = type_of(got)
    bounds = BOUNDS.get(type.dtype.name if type else "")
    if bounds and rounds:
        bounds = max(bounds, BOUNDS[rounds])
    if isinstance(got, Packed):
        bounds = FUSED_CODES[got.dtype.name] if fused else BOUNDS["f32"]
        got = dense(got)
    if type is not None and type.dtype.codes:  # pages of keys and values
        bounds = FUSED_CODES[type.dtype.name] if fused else BOUNDS["f32"]
        result = got = cells.dense(got)
        ref = cells.dense(ref)
    got, ref = got.cpu(), ref.cpu()
    _require(got.shape == ref.shape, f"{label}: shape {tuple(got.shape)}, the oracle has {tuple(ref.shape)}")
    if bounds is None:
        if type and type.dtype.floating:
            raise UnsupportedError(
                f"{label}: results in {type.dtype} have no bounds", remedy=f"one of: {', '.join(BOUNDS)}"
            )
        _require(torch.equal(got.long(), ref.long()), f"{label}: integers differ")
        return 0.0
    got, ref = got.double(), ref.to(result.dtype if isinstance(result, torch.Tensor) else torch.float32).double()
    _require(torch.equal(got.isnan(), ref.isnan()), f"{label}: NaN in other places than the oracle's")
    infinite = ref.isinf()
    _require(torch.equal(got.isinf(), infinite), f"{label}: infinity in other places than the oracle's")
    _require(torch.equal(got[infinite], ref[infinite]), f"{label}: infinities of another sign")
    finite = ref.isfinite()
    got, ref = got[finite], ref[finite]
    if not ref.numel():
        return 0.0
    rms = ref.square().mean().sqrt()
    error = (got - ref).abs() / torch.maximum(ref.abs(), rms).clamp_min(1e-300)
    largest, mean = float(error.max()), float(error.square().mean().sqrt())
    _require(
        largest <= bounds[0] and mean <= bounds[1],
        f"{label}: relative error max {largest:.2e} (bound {bounds[0]:.0e}), rms {mean:.2e} (bound {bounds[1]:.0e})",
    )
    return largest


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise NumericsError(what)
