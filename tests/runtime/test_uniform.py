"""Uniforms: a function of seed, index and position."""

from __future__ import annotations

import numpy as np
import pytest

from forge.runtime.uniform import Uniforms

pytestmark = pytest.mark.null


def test_any_order_gives_the_same_numbers() -> None:
    forward = [Uniforms(3).at(i) for i in range(200)]
    stream = Uniforms(3)
    order = np.random.default_rng(0).permutation(200)
    assert {int(i): stream.at(int(i)) for i in order} == dict(enumerate(forward))
    assert len(set(forward)) == 200


def test_seed_and_index_both_matter() -> None:
    draws = {(seed, index): Uniforms(seed, index).at(5) for seed in (0, 1, 2**64 - 1) for index in (0, 1)}
    assert len(set(draws.values())) == 6


def test_numbers_are_uniform_and_never_0_or_1() -> None:
    stream = Uniforms(11)
    u = np.sort([stream.at(i) for i in range(4096)])
    assert u[0] > 0 and u[-1] < 1
    # Kolmogorov-Smirnov at 0.1%.
    assert np.abs(u - (np.arange(4096) + 0.5) / 4096).max() < 1.95 / 64
