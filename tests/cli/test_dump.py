"""`forge dump`: graphs that parse back, plans, and code objects of an AMD GPU that is not here."""

from __future__ import annotations

import pytest

from forge.graph.passes import PIPELINE
from forge.graph.text import parse_graph
from forge.kernels import load

TINY = ("--max-seqs", "2", "--context", "256")
pytestmark = pytest.mark.cpu


@pytest.mark.parametrize("name", ["built", *(name for name, _ in PIPELINE)])
def test_the_graph_after_a_pass_parses_back(forge, name):
    result = forge("dump", "--after", name, "--target", "gfx1100", *TINY)
    graph = parse_graph(result.out, load())
    assert result.code == 0 and str(graph) == result.out


def test_passes_do_what_their_names_say(forge):
    def ops(name):
        graph = parse_graph(forge("dump", "--after", name, "--target", "gfx1100", *TINY).out, load())
        return [node.op.name for node in graph.calls()]

    assert ops("built").count("linear") > ops("stack_weights").count("linear")
    assert "rope_append" not in ops("stack_weights") and "rope_append" in ops("fuse")
    assert "quantize_q8" not in ops("stack_weights") and "quantize_q8" in ops("quantize_activations")


def test_a_plan_has_a_line_a_step_and_the_sizes_asked_for(forge):
    result = forge("dump", "--plan", "--tokens", 7, "--seqs", 2, *TINY)
    assert result.code == 0 and "T=7, S=2, R=2" in result.out
    assert result.out.count(" paged_attention ") == 6 and "f32[7,512]" in result.out and "f32[2,8192]" in result.out


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("--after", "nonsense"), 2),
        ((), 2),
        (("--plan", "--after", "fuse"), 2),
        (("--plan", "--tokens", 0), 2),
        (("--plan", "--tokens", 2, "--seqs", 3), 2),
        (("--plan", "--tokens", 1 << 20), 2),
        (("--plan", "--json"), 2),
        (("--code", "sm_90"), 2),
        (("--code", "gfx942", "--target", "gfx1100"), 2),
        (("--code", "nonsense"), 4),
        (("missing.gguf", "--plan"), 3),
    ],
)
def test_what_cannot_be_dumped_ends_with_its_code(forge, argv, code):
    result = forge("dump", *argv)
    assert (result.code, result.out) == (code, "") and "error" in result.err


@pytest.mark.compile
def test_code_objects_are_listed_with_registers_and_lds(forge, tiny_model):
    rows = forge("dump", tiny_model, "--code", "gfx942", "--json").json
    assert {"linear", "paged_attention_q8", "embed"} <= {row["op"] for row in rows}
    for row in rows:
        assert list(row) == ["op", "kernel", "vgprs", "agprs", "spills", "scratch", "lds", "bytes"]
        assert 0 < row["vgprs"] <= 512 and row["spills"] == 0 and 0 <= row["lds"] <= 65536 and row["bytes"] > 1000
