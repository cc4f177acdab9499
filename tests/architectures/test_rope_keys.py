"""Metadata keys of a rotation: what no rotation can be made of is refused by its key."""

from __future__ import annotations

import numpy as np
import pytest

from forge.errors import FileFormatError
from forge.models.keys import Keys
from forge.models.parts.rotary import Rope, read_rope

pytestmark = pytest.mark.cpu
ROPE = "rope.scaling."


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("rope.freq_base", (1.0, 0.5, 0.0, -1.0)),
        (ROPE + "factor", (0.0, -1.0)),
        (ROPE + "yarn_ext_factor", (-1.0, 2.0)),
        (ROPE + "yarn_attn_factor", (0.0, -1.0)),
        (ROPE + "attn_factor", (0.0, -1.0)),
        (ROPE + "yarn_beta_fast", (0.0, -1.0)),
        (ROPE + "yarn_beta_slow", (0.0, -1.0)),
    ],
)
def test_numbers_of_a_rotation_that_cannot_be_are_refused_by_their_key(key, wrong):
    yarn = {"rope.dimension_count": 8, "context_length": 64, ROPE + "type": "yarn", ROPE + "factor": 4.0}
    for value in (*wrong, float("nan"), float("inf"), float("-inf"), "1", np.ones(2)):
        with pytest.raises(FileFormatError, match=f"the metadata key a.{key} holds"):
            read_rope(Keys("a", {f"a.{k}": v for k, v in (yarn | {key: value}).items()}), "norm", 8)


@pytest.mark.parametrize("beta", [5e-324, 1e-300, 1e300, 1e308])
def test_any_turns_above_0_give_a_ramp(beta):
    for name in ("beta_fast", "beta_slow"):
        rope = Rope("norm", 8, 10000.0, "yarn", 4.0, 64, **{name: beta})
        assert all(0 < turns < 1 for turns in rope.turns)
