"""Quantized activations: planes, sums, and what becomes of values that are not finite."""

from __future__ import annotations

import pytest
import torch

from forge.kernels.quantize_q8 import quantize_q8
from forge.quant import dense

pytestmark = pytest.mark.cpu


def rows(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 96, generator=torch.Generator().manual_seed(seed))


def test_codes_scales_and_sums_are_of_one_another():
    x = rows()
    x[1, 32:64] = 0
    packed = quantize_q8(x)
    codes = packed.planes["q"].view(torch.int8).reshape(4, 3, 32).double()
    groups = x.reshape(4, 3, 32).double()
    assert torch.allclose(packed.planes["d"].double() * 127, groups.abs().amax(-1), rtol=1e-6)
    assert torch.allclose(packed.planes["s"].double(), packed.planes["d"].double() * codes.sum(-1), rtol=1e-6)
    assert (codes.abs().amax(-1) == torch.where(groups.abs().amax(-1) > 0, 127, 0)).all()
    assert (dense(packed).reshape(4, 3, 32) - groups).abs().amax() <= packed.planes["d"].max() / 2 * 1.0001


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_poisons_its_group_and_no_other(value):
    x = rows()
    x[2, 40] = value
    poisoned = dense(quantize_q8(x)).reshape(4, 3, 32).isnan()
    assert poisoned[2, 1].all() and poisoned.sum() == 32
