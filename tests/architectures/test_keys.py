"""Metadata keys: each is checked as it is read, and what nobody read is refused unless it does nothing."""

from __future__ import annotations

import numpy as np
import pytest

from forge.errors import FileFormatError, UnsupportedError
from forge.models import architecture
from forge.models.keys import NEUTRAL, Keys, sources_of

pytestmark = pytest.mark.null


def keys(**given):
    return Keys("a", {f"a.{key}": value for key, value in given.items()})


def test_a_size_says_where_it_was_read_and_a_default_where_it_was_derived():
    read = keys(width=64, heads=4)
    width, heads = read.size("width"), read.size("heads")
    assert (width, sources_of(width)) == (64, ("a.width",))
    derived = read.size("head_width", width // heads)
    assert (derived, sources_of(derived)) == (16, ("a.width", "a.heads"))


@pytest.mark.parametrize("value", [0, -1, 1 << 25, 2.0, "64", True, [64]])
def test_what_is_no_size_is_refused_by_its_key(value):
    with pytest.raises(FileFormatError, match=r"the metadata key a\.width holds"):
        keys(width=value).size("width")
    with pytest.raises(FileFormatError, match=r"the metadata key a\.width is missing"):
        keys().size("width")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "1"])
def test_what_is_not_above_0_is_refused_by_its_key(value):
    with pytest.raises(FileFormatError, match=r"the metadata key a\.eps holds"):
        keys(eps=value).positive("eps")
    with pytest.raises(FileFormatError, match=r"a\.eps holds 1\.0, where a number above 2 must stand"):
        keys(eps=1).positive("eps", above=2)
    assert keys(eps=2).positive("eps") == 2.0 and keys().positive("eps", 0.5) == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "1"])
def test_what_is_no_share_is_refused_by_its_key(value):
    with pytest.raises(FileFormatError, match=r"the metadata key a\.part holds"):
        keys(part=value).share("part", 1.0)
    assert keys(part=0).share("part", 1.0) == 0.0 and keys().share("part", 0.5) == 0.5


def test_a_window_is_a_count():
    assert keys().window() == 0 and Keys("a", {"a.attention.sliding_window": 9}).window() == 9
    with pytest.raises(FileFormatError, match="sliding_window holds -1"):
        Keys("a", {"a.attention.sliding_window": -1}).window()


def test_marks_are_an_array_or_all_but_each_nth():
    assert keys(marks=3).marks("marks", 7, 6) == (True, True, False, True, True, False, True)
    assert keys().marks("marks", 3, 2) == (True, False, True)
    assert keys(marks=np.array([False, True])).marks("marks", 2, 6) == (False, True)
    for wrong in (0, "3", np.array([True]), np.array([1, 0])):
        with pytest.raises(FileFormatError, match=r"a\.marks holds"):
            keys(marks=wrong).marks("marks", 2, 6)


@pytest.mark.parametrize("value", [1.0, 1e10])
def test_an_epsilon_is_below_1(value):
    with pytest.raises(FileFormatError, match=r"the metadata key a\.eps holds .* a number below 1 must stand"):
        keys(eps=value).epsilon("eps")
    assert keys(eps=1e-5).epsilon("eps") == 1e-5


@pytest.mark.parametrize("key", NEUTRAL)
def test_a_key_of_another_family_is_refused_unless_it_does_nothing_or_is_read(key):
    neutral, what = NEUTRAL[key]
    Keys("a", {f"a.{key}": neutral}).finish()
    other = Keys("a", {f"a.{key}": "other"})
    with pytest.raises(UnsupportedError, match=f"{what} is not supported for a"):
        other.finish()
    other.get(key, str)
    other.finish()
    for wrong in (np.array([neutral, neutral]), np.array([neutral]), [neutral], None):
        with pytest.raises(UnsupportedError, match=f"{what} is not supported for a"):
            Keys("a", {f"a.{key}": wrong}).finish()


def test_a_neutral_number_may_be_whole_and_a_truth_is_none():
    Keys("a", {"a.logit_scale": 1}).finish()
    for key, value in (("logit_scale", True), ("pooling_type", False), ("use_parallel_residual", 0)):
        with pytest.raises(UnsupportedError, match=f"a.{key} = {value}"):
            Keys("a", {f"a.{key}": value}).finish()


@pytest.mark.parametrize("wrong", [{"attention.layer_norm_rms_epsilon": 1e10}, {"expert_count": 8}, {"gate": 1}])
def test_an_error_about_a_key_names_the_file(wrong):
    llama = architecture("llama")
    metadata = {f"llama.{key}": value for key, value in (llama.tiny | wrong).items()}
    with pytest.raises((FileFormatError, UnsupportedError), match=next(iter(wrong))) as error:
        llama.model(metadata, {}, "here.gguf")
    assert error.value.where == "here.gguf"


def test_a_key_that_nobody_knows_is_refused_even_where_another_names_no_mathematics():
    Keys("a", {"a.vocab_size": 7, "b.gate": 1, "general.name": "x"}).finish()
    with pytest.raises(UnsupportedError, match=r"does not know.*a\.gate"):
        Keys("a", {"a.vocab_size": 7, "a.gate": 1}).finish()
