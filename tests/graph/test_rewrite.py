"""Rebuilding and fusion: what they keep, what they join, and that they never make a cycle."""

from __future__ import annotations

import pytest
from graph.toy import KV, OPS, F, append, plus, plus_scale, recall, scale
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.errors import FileFormatError, GraphError
from forge.graph.evaluate import evaluate
from forge.graph.ir import Graph, Value
from forge.graph.op import op
from forge.graph.passes.fuse import fuse
from forge.graph.patterns import rules_of
from forge.graph.rewrite import Group, expand, rebuild
from forge.graph.text import parse_graph
from forge.graph.types import tensor
from forge.graph.verify import verify

pytestmark = pytest.mark.null
RULE = rules_of(plus_scale)[0]


def names(graph):
    return [n.op.name for n in graph.calls()]


def run(graph):
    return evaluate(graph, {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8]}, lambda n: None, {})[0]


def test_rebuild_drops_the_dead_and_keeps_the_inputs():
    g = Graph()
    a, b = g.input("a", F), g.input("b", F)
    scale(b, by=9)
    g.output("y", scale(a, by=2))
    new = rebuild(g)
    assert names(new) == ["scale"]
    assert [n.name for n in new.leaves("input")] == ["a", "b"]


def test_fusion_replaces_both_results():
    g = Graph()
    total = plus(g.input("a", F), g.input("b", F))
    g.output("y", scale(total, by=2))
    g.output("z", scale(total, by=3))
    before, fused = run(g), verify(fuse(g, RULE))
    assert sorted(names(fused)) == ["plus_scale", "scale"]
    assert run(fused) == before


def test_what_others_read_is_hidden_only_by_ops_that_do_without_it():
    """Two calls share a part: each is fused by itself, and the part goes if nothing else reads it."""
    g = Graph()
    shared = scale(g.input("a", F), by=3)
    for name in ("y", "z"):
        g.output(name, plus(shared, scale(g.input("b", F), by=len(g.outputs))))

    def body(x, y):
        return plus(scale(x, by=3), y)

    def keeps(x, y):
        """3x + y"""

    def does_without(x, y):
        """3x + y"""

    assert "keeps" not in names(fuse(g, rules_of(op(equals=body)(keeps))[0]))
    fused = verify(fuse(g, rules_of(op(equals=body, repeats=True)(does_without))[0]))
    assert names(fused) == ["scale", "does_without", "scale", "does_without"]
    assert run(fused) == run(g)
    g.output("x", shared)
    assert names(fuse(g, rules_of(op(equals=body, repeats=True)(does_without))[0])).count("does_without") == 2


def test_fusion_stops_at_a_cycle():
    """total feeds an operand of the outer plus: fusing (inner plus, outer) would make a node depend on itself."""
    g = Graph()
    a, b = g.input("a", F), g.input("b", F)

    def square(x, y, *, by):
        total = plus(x, y)
        return total, plus(scale(total, by=by), y)

    @op(equals=square)
    def tangled(x, y, *, by):
        """(x + y, (x + y) * by + y)"""

    assert rules_of(tangled)[0].size == 3
    inner = plus(a, b)
    g.output("y", plus(scale(inner, by=2), b))
    assert names(fuse(g, rules_of(tangled)[0])) == ["tangled"]
    h = Graph()
    a, b = h.input("a", F), h.input("b", F)
    late = scale(plus(a, a), by=5)  # an operand that comes after the node to be replaced
    total = plus(a, b)
    h.output("y", plus(scale(total, by=2), late))
    assert "tangled" not in names(fuse(h, rules_of(tangled)[0]))


def _sum_plus(x, y, z):
    total = plus(x, y)
    return total, plus(total, z)


@op(equals=_sum_plus)
def sum_plus(x, y, z):
    """(x + y, x + y + z)"""


def test_fusion_leaves_alone_an_operand_made_of_its_own_result():
    """z of the pattern is made from its first result, so the fused call would need itself."""
    for made_of_total in (False, True):
        g = Graph()
        a, b = g.input("a", F), g.input("b", F)
        total = plus(a, b)
        g.output("y", plus(total, scale(total if made_of_total else a, by=2)))
        fused = verify(fuse(g, rules_of(sum_plus)[0]))
        assert ("sum_plus" in names(fused)) != made_of_total
        assert run(fused) == run(g)


def test_two_matches_that_would_need_each_other_are_not_both_fused():
    g = Graph()
    a, b = g.input("a", F), g.input("b", F)
    first, second = plus(a, b), plus(b, a)
    g.output("y", plus(first, scale(second, by=2)))
    g.output("z", plus(second, scale(first, by=2)))
    fused = verify(fuse(g, rules_of(sum_plus)[0]))
    assert names(fused).count("sum_plus") == 1
    assert run(fused) == run(g)


def test_fusion_computes_nothing_twice():
    """A value inside a pattern that someone else reads would be made again beside the fused call."""

    @op(equals=lambda x, y, *, by: plus(scale(x, by=by), y))
    def scale_plus(x, y, *, by):
        """x * by + y"""

    for read_by_others in (False, True):
        g = Graph()
        scaled = scale(g.input("a", F), by=2)
        g.output("y", plus(scaled, g.input("b", F)))
        if read_by_others:
            g.output("z", scale(scaled, by=3))
        fused = verify(fuse(g, rules_of(scale_plus)[0]))
        assert sorted(names(fused)) == (["plus", "scale", "scale"] if read_by_others else ["scale_plus"])
        assert run(fused) == run(g)


def test_a_rebuild_that_depends_on_itself_is_an_error():
    g = Graph()
    a = g.input("a", F)
    x = scale(a, by=2)
    y = scale(x, by=3)
    g.output("y", y)
    loop = Group((x,), (y,), lambda new, sources: sources)
    with pytest.raises(GraphError, match="depend on itself"):
        rebuild(g, [loop])


def test_a_rewrite_that_changes_a_value_s_type_names_the_op():
    half = tensor("f16", 4)

    @op(types=lambda a, *, by: half, equals=lambda a, *, by: scale(a, by=by))
    def scaled_to_half(a, *, by):
        """a * by, in f16 it says"""

    a = Graph().input("a", F)
    a.node.graph.output("y", scaled_to_half(a, by=2))
    with pytest.raises(GraphError, match=r"scaled_to_half : f16\[4\]> would become <.* scale : f32\[4\]>"):
        expand(a.node.graph, lambda node: True)


def test_depth_is_no_limit():
    g = Graph()
    x = g.input("a", F)
    for i in range(5000):
        x = scale(x, by=i)
    g.output("y", x)
    assert len(rebuild(fuse(g, RULE)).nodes) == 5001


@st.composite
def graphs(draw):
    g = Graph("random")
    values: list[Value] = [g.input("a", F), g.input("b", F)]
    for _ in range(draw(st.integers(1, 25))):
        pick = lambda: values[draw(st.integers(0, len(values) - 1))]  # noqa: E731
        kind = draw(st.sampled_from(["plus", "scale", "scale"]))
        values.append(plus(pick(), pick()) if kind == "plus" else scale(pick(), by=draw(st.integers(1, 3))))
    for i in range(draw(st.integers(1, 3))):
        g.output(f"y{i}", values[-1 - i])
    return g


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_rewriting_keeps_the_meaning_and_text_comes_back(graph):
    before = run(verify(graph))
    for new in (rebuild(graph), fuse(graph, RULE), fuse(rebuild(graph), RULE)):
        assert run(verify(new)) == before
        text = str(new)
        assert str(verify(parse_graph(text, OPS))) == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%2 = nothing(%0) : f32[4]", "no op is called nothing"),
        ("%2 = scale(%9, by=2) : f32[4]", "%9"),
        ("%2 = scale(%0, by=2) : f32[5]", "the op gives"),
        ("%2 = scale(%0, by=__import__('os')) : f32[4]", "malformed"),
        ("hello", "neither a node nor an output"),
    ],
)
def test_a_text_that_is_no_graph_names_its_line(line, message):
    with pytest.raises(FileFormatError, match="line 3") as error:
        parse_graph(f'graph g ()\n%0 = input "a" : f32[4]\n{line}', OPS)
    assert message in str(error.value)


def test_rewriting_keeps_every_output_and_every_update():
    g = Graph()
    a, b = g.input("a", F), g.input("b", F)
    kv = append(g.state("kv", KV), plus(a, b))
    g.update("kv", kv)
    g.output("y", scale(plus(a, b), by=2))
    g.output("z", recall(kv))
    inputs, states = {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8]}, {"kv": [0] * 8}
    before = evaluate(g, inputs, lambda n: None, states)
    assert before[1] == {"kv": [0, 0, 0, 0, 6, 8, 10, 12]}
    for new in (rebuild(g), fuse(g, RULE)):
        assert evaluate(verify(new), inputs, lambda n: None, states) == before
