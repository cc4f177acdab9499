"""The tuning store: which entry a call gets, and that no entry is ever ignored in silence."""

from __future__ import annotations

import json

import pytest

from forge.errors import FileFormatError, GraphError, UsageError
from forge.graph.op import Space
from forge.graph.types import tensor
from forge.kernels import load
from forge.lower.select import call_of
from forge.target import TARGETS
from forge.tune.store import RULES, TuningStore, shipped

pytestmark = pytest.mark.cpu
OPS = load()
LINEAR = OPS["linear"]
SPACE = {n: k.space for n, k in LINEAR.kernels.items()}
CONFIG = {"ROWS": 2, "BLOCK_K": 2048, "STAGES": 1, "num_warps": 2}
OTHER = CONFIG | {"ROWS": 1}


def entry(config=CONFIG, kernel="linear_gemv", **fits):
    return {"fits": fits, "kernel": kernel, "config": config, "evidence": {"kind": "compiled"}}


def store(tmp_path, *entries, op="linear", arch="sm_90"):
    (tmp_path / arch).mkdir(exist_ok=True)
    (tmp_path / arch / f"{op}.json").write_text(json.dumps(entries))
    return TuningStore(tmp_path)


def call(t=1, n=4096, k=4096, x="a16", w="q4_K", bias=False, out="f16", arch="sm_90"):
    types = (tensor(x, t, k), tensor(w, n, k), tensor("f32", n) if bias else None)
    return call_of(LINEAR, types, {"out": out}, TARGETS[arch])


def choose(store, kernel="linear_gemv", **of):
    return store.get(LINEAR.kernels[kernel], call(**of))


def test_without_an_entry_the_space_s_first_point(tmp_path):
    choice = choose(store(tmp_path, entry(), arch="gfx942"))
    assert (choice.origin, choice.config) == ("default", SPACE["linear_gemv"].default)


def test_a_bias_does_not_change_which_entry_fits(tmp_path):
    made = store(tmp_path, entry(x="a16", w="q4_K"))
    assert choose(made, bias=True) == choose(made) and choose(made).source == "exact"


def test_an_entry_fits_by_every_field_that_it_names(tmp_path):
    made = store(tmp_path, entry(x="activation", w=["q4_K", "q6_K"], T=8, N="4096..8192", K=4096, out="f16"))
    assert choose(made, t=5, n=8192).source == choose(made, t=8, x="a8", w="q6_K").source == "exact"
    for other in ({"t": 4}, {"n": 4095}, {"k": 8192}):
        assert choose(made, **({"t": 5} | other)).source == "nearest", other
    for other in ({"w": "q8_0"}, {"out": "f32"}, {"arch": "gfx942"}):
        assert choose(made, **({"t": 5} | other)).source == "default", other


def test_the_entry_that_demands_most_is_taken(tmp_path):
    for order in ((entry(), entry(OTHER, N=4096)), (entry(OTHER, N=4096), entry())):
        made = store(tmp_path, *order)
        assert (choose(made).config, choose(made, n=4097).config) == (OTHER, CONFIG)


def test_the_nearest_entry_serves_and_says_how_far_it_is(tmp_path):
    made = store(tmp_path, entry(T=1, N=4096, x="a16"), entry(OTHER, T=1, N=16384, x="a16"))
    found = choose(made, t=2, n=32768)
    assert (found.config, found.origin) == (OTHER, "nearest, 2.0 octaves")
    assert choose(made, n=6000).config == CONFIG
    assert choose(made, x="a8").source == "default", "another element type is never near"


def test_a_head_s_width_is_never_near(tmp_path):
    config = {"BLOCK_M": 32, "BLOCK_N": 16, "PEEL": False, "num_warps": 8, "num_stages": 1}
    made = store(tmp_path, entry(config, "flash_rows", E=128), op="flash_attention")
    flash = OPS["flash_attention"]
    for width, source in ((128, "exact"), (256, "default")):
        types = tensor("f16", 1, 64, 8, width), *[tensor("f16", 1, 64, 2, width)] * 2
        asked = call_of(flash, types, flash.bind(types, {"scale": 0.1})[1], TARGETS["sm_90"])
        assert made.get(flash.kernels["flash_rows"], asked).source == source


@pytest.mark.parametrize(
    ("fits", "message"),
    [
        ({"w": "q4K"}, "unknown element type 'q4K'"),
        ({"bias": "f32"}, "no operand, axis or attribute 'bias'"),
        ({"heads": 8}, "no operand, axis or attribute 'heads'"),
        ({"D": 64}, "no operand, axis or attribute 'D'"),
        ({"T/E": ">8"}, "no operand, axis or attribute 'T/E'"),
        ({"T": 6}, "6 is no bucket"),
        ({"N": "4096x"}, "no size"),
        ({"N": "8..4"}, "no size"),
        ({"N": True}, "no size"),
        ({"N": []}, "fits nothing"),
        ({"out": "f61"}, "'f61' is no value of it"),
        ({"out": 16}, "16 is no value of it"),
    ],
)
def test_what_no_call_can_have_is_an_error(tmp_path, fits, message):
    with pytest.raises(FileFormatError, match=message) as error:
        choose(store(tmp_path, entry(T=1), entry(**fits)))
    assert "linear.json, entry 2" in error.value.where


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (entry(kernel="linear_round"), "no kernel 'linear_round'"),
        (entry(CONFIG | {"ROWS": 99}), "ROWS=99 is not in the space"),
        (entry(CONFIG | {"ROWS": True}), "ROWS=True is not in the space"),
        (entry(CONFIG | {"WAVES": 3}), "WAVES"),
        (entry({"ROWS": 4}), "the space has"),
        (entry(None), "gives no config"),
        (entry() | {"evidence": {"kind": "guessed"}}, "no evidence"),
        ({"kernel": "linear_gemv", "config": CONFIG, "fits": {}}, "no evidence"),
        (entry() | {"evidence": {"kind": "measured"}}, "gives no time"),
        (entry() | {"evidence": {"kind": "measured", "us": {}}}, "gives no time"),
        (entry() | {"evidence": {"kind": "measured", "us": {"1x1": -4.4}}}, "gives no time"),
        (entry() | {"types": "a16 q4_K"}, "an entry has no types"),
        ({n: v for n, v in entry().items() if n != "fits"}, "what it fits"),
        ("linear_gemv", "an entry is an object"),
    ],
)
def test_a_wrong_entry_is_an_error(tmp_path, wrong, message):
    with pytest.raises(FileFormatError, match=message) as error:
        choose(store(tmp_path, entry(T=1), wrong))
    assert "linear.json, entry 2" in error.value.where


def test_two_entries_that_fit_one_key_are_an_error_unless_one_demands_more(tmp_path):
    for other in ({"N": 4096, "T": "5..16"}, {"N": "<=4096", "T": 8}, {"x": "a8", "T": "<=8"}):
        with pytest.raises(FileFormatError, match="entries 1 and 2 fit one key"):
            choose(store(tmp_path, entry(N=[4096, 6144], T=8), entry(OTHER, **other)))
    for apart in ({"N": 4097, "T": 8}, {"N": 4096, "T": 16}, {"N": 4096, "T": ">8"}, {"N": 4096}):
        choose(store(tmp_path, entry(N=[4096, 6144], T=8), entry(OTHER, **apart)))


def test_attributes_are_of_their_type(tmp_path):
    config = {"BLOCK_M": 32, "BLOCK_N": 16, "PEEL": False, "num_warps": 8, "num_stages": 1}
    flash = OPS["flash_attention"]
    types = tensor("f16", 1, 64, 8, 64), *[tensor("f16", 1, 64, 2, 64)] * 2

    def source(**fits):
        asked = call_of(flash, types, flash.bind(types, {"scale": 0.1, "softcap": 30.0})[1], TARGETS["sm_90"])
        made = store(tmp_path, entry(config, "flash_rows", **fits), op="flash_attention")
        return made.get(flash.kernels["flash_rows"], asked).source

    assert source(causal=True, window=0, softcap=">0") == "exact"
    assert source(softcap=0) == source(causal=False) == "default"
    for wrong in ({"causal": "true"}, {"causal": 1}, {"window": "none"}, {"softcap": False}):
        with pytest.raises(FileFormatError, match="fits"):
            source(**wrong)


def test_a_file_that_is_no_list_or_is_of_nothing_is_an_error(tmp_path):
    made = store(tmp_path)
    for text in ("{}", "not json"):
        (tmp_path / "sm_90" / "linear.json").write_text(text)
        with pytest.raises(FileFormatError):
            choose(TuningStore(*made.roots))
    with pytest.raises(FileFormatError, match="no op is called 'lineer'"):
        choose(store(tmp_path, op="lineer"))
    (tmp_path / "sm_90" / "lineer.json").unlink()
    with pytest.raises(FileFormatError, match="no architecture is called 'sm90'"):
        choose(store(tmp_path, arch="sm90"))


@pytest.mark.parametrize("place", ["linear.json", "sm_90/old/linear.json"])
def test_a_file_that_lies_in_no_architecture_s_folder_is_an_error(tmp_path, place):
    made = store(tmp_path, entry())
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("[]")
    with pytest.raises(FileFormatError, match="in no architecture's folder"):
        choose(made)


def test_what_stands_in_an_earlier_root_goes_over_a_later_one(tmp_path):
    for name in ("mine", "shipped"):
        (tmp_path / name).mkdir()
    store(tmp_path / "mine", entry(OTHER, N=4096)), store(tmp_path / "shipped", entry(N=[4096, 6144], x="a16"))
    both = TuningStore(tmp_path / "mine", tmp_path / "shipped")
    assert (choose(both).config, choose(both, n=6144).config) == (OTHER, CONFIG)
    assert choose(both, n=8192).config == OTHER, "so does what is near, though another is nearer"


def test_the_files_within_the_package_go_over_a_folder_beside_it(tmp_path):
    package = tmp_path / "forge"
    package.mkdir()
    for folder in (package / "_tuning", tmp_path / "tuning"):
        folder.mkdir()
        with pytest.raises(FileFormatError, match="tuning files are not there"):
            shipped(package)
    (tmp_path / "tuning" / RULES).mkdir()
    assert shipped(package) == tmp_path / "tuning"
    (package / "_tuning" / RULES).mkdir()
    assert shipped(package) == package / "_tuning"
    assert TuningStore().roots == (shipped(),)


def test_only_points_that_are_valid_for_the_call_are_given():
    space = Space(ROWS=(4, 2, 1), valid=lambda point, call: call.types[1].shape[0] % point["ROWS"] == 0)
    assert list(space.points(call(n=6))) == [{"ROWS": 2}, {"ROWS": 1}]
    assert space.first(call(n=8)) == {"ROWS": 4} == space.default
    never = Space(ROWS=(4,), valid=lambda point, call: False)
    with pytest.raises(GraphError, match="no configuration is valid"):
        never.first(call())


def chosen(store, op, types, attrs, arch="sm_90"):
    found = store.choose(call_of(op, types, op.bind(types, attrs)[1], TARGETS[arch]))
    return "equals" if found is None else found[0].name


def test_a_fused_op_may_be_better_composed_from_what_it_equals(tmp_path):
    fused = OPS["add_rms_norm"]
    better = {"fits": {"T": ">=512"}, "kernel": "equals", "evidence": {"kind": "measured", "us": 7}}
    made = store(tmp_path, better, op="add_rms_norm")
    [kernel] = [k.name for k in fused.kernels.values() if k.on == "gpu"]
    for t, name in ((511, kernel), (512, "equals")):
        assert (
            chosen(made, fused, (tensor("f16", t, 64), tensor("f16", t, 64), tensor("f32", 64)), {"eps": 1e-5}) == name
        )
    for wrong, op in ((better | {"config": {"ROWS": 1}}, "add_rms_norm"), (better, "linear")):
        with pytest.raises(FileFormatError):
            made = store(tmp_path, wrong, op=op)
            made.read(tmp_path, "sm_90", OPS[op])


def paged(t, s):
    ints = (tensor("i32", s, 32), *[tensor("i32", s)] * 3)
    return tensor("f16", t, 8, 64), tensor("f16", 2, 64, 2, 16, 64), *ints


def test_the_rules_choose_by_tokens_a_sequence_and_an_architecture_s_entries_go_over_them(tmp_path):
    op, attrs = OPS["paged_attention"], {"scale": 0.1}
    config = {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 8, "num_stages": 1}
    rules, own = TuningStore(), TuningStore(tmp_path, *TuningStore().roots)
    store(tmp_path, entry(config, "paged_rows", T=16, S=2), op="paged_attention")
    for t, s, name in ((8, 1, "paged_split"), (9, 1, "paged_rows"), (16, 2, "paged_split"), (17, 2, "paged_rows")):
        assert chosen(rules, op, paged(t, s), attrs) == name
    assert chosen(own, op, paged(16, 2), attrs) == "paged_rows"
    assert chosen(own, op, paged(8, 2), attrs) == "paged_split", "another number of tokens lends no kernel"


def test_what_the_data_choose_must_serve_the_call(tmp_path):
    op, rule = OPS["paged_attention"], {"fits": {}, "kernel": "paged_torch"}
    assert (
        chosen(store(tmp_path, rule, op="paged_attention", arch=RULES), op, paged(1, 1), {"scale": 0.1})
        == "paged_split"
    )


def test_every_shipped_file_holds_only_right_entries():
    made = TuningStore()
    files = sorted(made.roots[0].glob("*/*.json"))
    assert files
    for path in files:
        assert path.parent.name in {*TARGETS, RULES}, path
        assert made.read(made.roots[0], path.parent.name, OPS[path.stem]), path


@pytest.mark.parametrize("field", ["w", "out", "N", "T"])
def test_a_list_that_fits_nothing_is_an_error(tmp_path, field):
    with pytest.raises(FileFormatError, match="an empty list fits nothing"):
        choose(store(tmp_path, entry(**{field: []})))


@pytest.mark.parametrize("size", [float("nan"), float("inf")])
def test_a_size_is_finite(tmp_path, size):
    with pytest.raises(FileFormatError, match="is no size"):
        choose(store(tmp_path, entry(N=size)))


def test_a_name_that_stands_twice_is_an_error(tmp_path):
    made = store(tmp_path, entry(T=1))
    path = tmp_path / "sm_90" / "linear.json"
    path.write_text(path.read_text().replace('"T": 1', '"T": 1, "T": 2'))
    with pytest.raises(FileFormatError, match="a name stands twice"):
        choose(made)


def test_an_architecture_s_entry_names_a_kernel_that_it_can_run(tmp_path):
    for arch, of, kernel in (("sm_90", "cpu", "linear_torch"), ("cpu", "gpu", "linear_gemv")):
        config = SPACE[kernel].default
        made = store(tmp_path, entry(config, kernel), arch=arch)
        with pytest.raises(FileFormatError, match=f"{arch} cannot run the {of}'s {kernel}"):
            made.read(tmp_path, arch, LINEAR)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    for wrong in (tmp_path / "none", 3, str(tmp_path)):
        with pytest.raises(UsageError, match="a folder of tuning files"):
            TuningStore(wrong)
