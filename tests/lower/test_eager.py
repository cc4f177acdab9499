"""Ops called on tensors: what tells calls apart, and what is refused before a kernel could read it wrongly."""

from __future__ import annotations

import pytest
import torch

from forge.kernels.scale import scale
from forge.language import interpreted


@pytest.mark.cpu
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
def test_calls_whose_attributes_are_equal_and_not_the_same_are_two():
    x = torch.ones(1, 2)
    for factor in (0.0, -0.0, 0.0):
        assert torch.equal(scale(x, factor=factor).signbit(), torch.tensor([[factor, factor]]).signbit())
