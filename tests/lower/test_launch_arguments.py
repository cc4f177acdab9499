"""A launch's tuples of arguments: the compiled kernel takes their elements one by one."""

from __future__ import annotations

from collections import namedtuple

import pytest

from forge.lower.launch import leaves

pytestmark = pytest.mark.null


def test_elements_are_named_by_field_or_by_number():
    planes = namedtuple("planes", ("q", "d"))
    assert dict(leaves("w", planes("*i32", ("*fp16", "i32")))) == {"w.q": "*i32", "w.d.0": "*fp16", "w.d.1": "i32"}
    assert list(leaves("N", "i32")) == [("N", "i32")]
