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
        (ROPE + "factor", (-1.0, -0.5)),
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


def _read(**given):
    keys = {"rope.dimension_count": 8, "context_length": 64} | {k.replace("__", "."): v for k, v in given.items()}
    return read_rope(Keys("a", {f"a.{key}": value for key, value in keys.items()}), "norm", 8)


@pytest.mark.parametrize("kind", [None, "none", "linear", "yarn"])
@pytest.mark.parametrize("old", [None, 0.0, 8.0])
@pytest.mark.parametrize("new", [None, 0.0, 0, 1.0, 4.0])
def test_scaling_is_what_type_and_factor_say_together(kind, old, new):
    """Faults 6: the type "none" scales nothing whatever the factor is, and a factor of 0 is not set, as in llama.cpp.

    The kind's bound: each type and none, with either key of the factor absent, 0 or set. The old key counts only where
    the new one is absent.
    """
    given = {"rope__scaling__type": kind, "rope__scale_linear": old, "rope__scaling__factor": new}
    rope = _read(**{key: value for key, value in given.items() if value is not None})
    factor = 1.0 if kind == "none" else (new if new is not None else old) or 1.0
    plain = _read()
    if kind == "yarn":
        assert (rope.scaling, rope.factor) == ("yarn", factor)
    else:
        assert rope.turns == [turns / factor for turns in plain.turns] and rope.magnitude == 1


def test_an_original_context_of_0_is_not_set():
    """Faults 6: as `rope.scaling.original_context_length` absent."""
    yarn = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0}
    assert _read(**yarn, rope__scaling__original_context_length=0) == _read(**yarn)
    with pytest.raises(FileFormatError, match="original_context_length"):
        _read(**yarn, rope__scaling__original_context_length=-1)
