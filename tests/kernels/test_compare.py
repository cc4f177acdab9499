"""What is compared with an oracle is judged by its type."""

from __future__ import annotations

import pytest
import torch

from forge.errors import NumericsError, UnsupportedError
from forge.verify import compare

pytestmark = pytest.mark.cpu


def test_a_floating_type_without_bounds_is_refused_and_not_taken_for_integers():
    with pytest.raises(UnsupportedError, match="sums: results in f64 have no bounds"):
        compare(torch.tensor([0.1, 5.9]).double(), torch.tensor([0.9, 5.0]).double(), "sums")


def test_integers_are_equal_or_an_error():
    assert compare(torch.tensor([1, 2]), torch.tensor([1, 2]), "ids") == 0.0
    with pytest.raises(NumericsError, match="ids: integers differ"):
        compare(torch.tensor([1, 2]), torch.tensor([1, 3]), "ids")
