"""The tuning store: which entry a call gets, and that no entry is ever ignored in silence."""

from __future__ import annotations

import json

import pytest

from forge.errors import FileFormatError
from forge.graph.types import tensor
from forge.kernels import load
from forge.lower.select import call_of
from forge.target import TARGETS
from forge.tune.store import TuningStore

pytestmark = pytest.mark.cpu
OP = load()["swiglu"]
KERNEL = OP.kernels["swiglu_flat"]
CONFIG = {"BLOCK": 512, "num_warps": 2}
ENTRY = {"kernel": "swiglu_flat", "config": CONFIG, "evidence": {"kind": "compiled"}}


def store(tmp_path, *entries, op="swiglu", arch="gfx1100"):
    folder = tmp_path / arch
    folder.mkdir(exist_ok=True)
    (folder / f"{op}.json").write_text(json.dumps(entries))
    return TuningStore(tmp_path)


def choose(store, dtype="f16", width=640):
    types = (tensor(dtype, 4, width),) * 2
    return store.get(KERNEL, call_of(OP, types, {}, TARGETS["gfx1100"]))


def test_without_an_entry_the_space_s_first_point(tmp_path):
    choice = choose(store(tmp_path))
    assert (choice.source, choice.config) == ("default", KERNEL.space.default)
    assert choose(store(tmp_path, ENTRY, arch="gfx942")).source == "default"


def test_the_entry_that_says_most_of_the_call_is_taken(tmp_path):
    wide = ENTRY | {"types": "f16 f16", "attrs": {"gate.width": 640}, "config": CONFIG | {"BLOCK": 2048}}
    both = store(tmp_path, ENTRY, wide)
    assert (choose(both).source, choose(both).config["BLOCK"]) == ("exact", 2048)
    assert (choose(both, width=641).source, choose(both, width=641).config["BLOCK"]) == ("nearest", 512)
    assert choose(both, dtype="bf16").config["BLOCK"] == 512
    only = store(tmp_path, ENTRY | {"types": "f32 f32"})
    assert choose(only).source == "default"


@pytest.mark.parametrize(
    "wrong",
    [
        ENTRY | {"kernel": "swiglu_round"},
        ENTRY | {"config": {"BLOCK": 512}},
        ENTRY | {"config": CONFIG | {"WAVES": 3}},
        ENTRY | {"evidence": {"kind": "guessed"}},
        {"kernel": "swiglu_flat", "config": CONFIG},
        "swiglu_flat",
    ],
)
def test_a_wrong_entry_is_an_error(tmp_path, wrong):
    with pytest.raises(FileFormatError, match=r"swiglu\.json"):
        choose(store(tmp_path, ENTRY, wrong))


def test_a_file_that_is_no_list_is_an_error(tmp_path):
    made = store(tmp_path)
    for text in ("{}", "not json"):
        (tmp_path / "gfx1100" / "swiglu.json").write_text(text)
        with pytest.raises(FileFormatError):
            choose(TuningStore(made.root))


def test_every_shipped_file_is_of_an_op_and_an_architecture_and_holds_only_right_entries():
    root = TuningStore().root
    files = sorted(root.glob("*/*.json"))
    assert files
    for path in files:
        assert path.parent.name in TARGETS, path
        op = load()[path.stem]
        kernel = next(iter(op.kernels.values()))
        assert TuningStore(root)._entries(kernel, path.parent.name), path
