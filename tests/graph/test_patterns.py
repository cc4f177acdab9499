"""Fusion rules of every shape an `equals` may have: what they match, what they leave alone, what they refuse to be."""

from __future__ import annotations

import pytest
from graph.toy import KV, OPS, F, append, maybe, namesake, plus, plus_scale, recall, scale
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.errors import GraphError
from forge.graph.evaluate import evaluate
from forge.graph.ir import Graph, Value
from forge.graph.op import Cost, op
from forge.graph.passes import Options
from forge.graph.passes.fuse import fuse, fuse_equals
from forge.graph.patterns import rules_of
from forge.graph.rewrite import expand
from forge.graph.verify import verify

pytestmark = pytest.mark.null


@op(
    types=lambda a: (a, a),
    reference=lambda a: (a[:2] * 2, a[2:] * 2),
    cost=lambda a: Cost(),
    results=2,
)
def halves(a):
    """(the first half twice, the second half twice)"""


@op(equals=lambda a, b, *, by: (scale(a, by=by), scale(b, by=by)))
def both_scaled(a, b, *, by):
    """(a * by, b * by)"""


@op(equals=lambda kv, q, k, *, by: (append(kv, scale(k, by=by)), scale(q, by=by)), writes="kv")
def scale_append(kv, q, k, *, by):
    """(kv with k * by, q * by)"""


@op(equals=lambda a: plus(*halves(a)))
def folded(a):
    """The first half twice plus the second half twice."""


@op(equals=lambda a, b=None: scale(maybe(a, b), by=2))
def maybe_twice(a, b=None):
    """a * 2, with an optional b"""


@op(equals=lambda a, b, c, *, by: plus(plus_scale(a, b, by=by)[1], c))
def plus_scale_plus(a, b, c, *, by):
    """(a + b) * by + c"""


@op(equals=lambda a, *, by: plus(scale(a, by=by), scale(a, by=by + 1)))
def sum_of_two(a, *, by):
    """a * by + a * (by + 1)"""


FUSED = (both_scaled, scale_append, folded, maybe_twice, plus_scale_plus, sum_of_two)
OPTIONS = Options(OPS | {o.name: o for o in FUSED}, lambda y, **at: y)
INPUTS = {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8], "c": [9, 10, 11, 12]}
STATES = {"kv": [0] * 8}


def inputs(graph):
    return [graph.input(name, F) for name in "abc"]


def names(graph):
    return sorted(n.op.name for n in graph.calls())


def run(graph):
    return evaluate(verify(graph), INPUTS, lambda n: None, STATES)


def same(graph, fused):
    return run(graph) == run(fused)


def test_results_that_do_not_depend_on_each_other():
    """As rope(q) beside kv_append(rope(k)) are."""
    g = Graph()
    a, b, _ = inputs(g)
    kv = append(g.state("kv", KV), scale(b, by=3))
    g.update("kv", kv)
    g.output("q", scale(a, by=3))
    g.output("end", recall(kv))
    fused = fuse(g, rules_of(scale_append)[0])
    assert names(fused) == ["recall", "scale_append"] and same(g, fused)


@pytest.mark.parametrize("chained", [True, False])
def test_roots_are_joined_with_their_neighbours(chained):
    """Each layer's q goes with its own k, though where layers do not depend on each other every q would do."""
    g = Graph()
    a = x = inputs(g)[0]
    for layer in range(4):
        x = x if chained else scale(a, by=10 + layer)
        kv = append(g.state(f"kv.{layer}", KV), scale(plus(x, x), by=3))
        g.update(f"kv.{layer}", kv)
        q = scale(x, by=3)
        g.output(f"q.{layer}", q)
        x = plus(q, recall(kv)) if chained else x
    g.output("y", x)
    fused = verify(fuse(g, rules_of(scale_append)[0]))
    nodes = [n for n in fused.calls() if n.op is scale_append]
    assert len(nodes) == 4
    for node in nodes:
        _, q, k = node.inputs
        assert k.node.inputs == (q, q), "k is made of the x that is q"
    states = {f"kv.{i}": [0] * 8 for i in range(4)}
    assert evaluate(g, INPUTS, lambda n: None, states) == evaluate(fused, INPUTS, lambda n: None, states)


def test_roots_of_one_op_are_two_calls_with_one_attribute():
    for other in (3, 4):
        g = Graph()
        a, b, _ = inputs(g)
        g.output("x", scale(a, by=3))
        g.output("y", scale(b, by=other))
        fused = fuse(g, rules_of(both_scaled)[0])
        assert names(fused) == (["both_scaled"] if other == 3 else ["scale", "scale"])
        assert same(g, fused)


def test_matches_that_reach_far_do_not_need_each_other():
    """The first match holds the first node and the last, so one that lies between may depend on it both ways."""
    g = Graph()
    a, b, _ = inputs(g)
    first = scale(a, by=1)
    g.output("w", plus(scale(a, by=2), scale(b, by=2)))
    inner = scale(b, by=3)
    g.output("x", scale(first, by=3))
    g.output("y", scale(inner, by=1))
    fused = fuse(g, rules_of(both_scaled)[0])
    assert names(fused).count("both_scaled") == 2 and same(g, fused)


@pytest.mark.parametrize("swapped", [False, True])
def test_results_of_a_call_keep_their_places(swapped):
    g = Graph()
    first, second = halves(inputs(g)[0])
    g.output("y", plus(second, first) if swapped else plus(first, second))
    fused = fuse(g, rules_of(folded)[0])
    assert names(fused) == (["halves", "plus"] if swapped else ["folded"]) and same(g, fused)


@pytest.mark.parametrize("present", [False, True])
def test_an_optional_operand_is_there_or_not(present):
    g = Graph()
    a, b, _ = inputs(g)
    g.output("y", scale(maybe(a, b if present else None), by=2))
    fused = fuse_equals(g, OPTIONS)
    (call,) = fused.calls()
    assert call.op is maybe_twice and (call.inputs[1] is not None) == present and same(g, fused)


def test_an_operand_that_is_there_is_not_dropped():
    g = Graph()
    a, b, _ = inputs(g)
    g.output("y", scale(maybe(a, b), by=2))
    absent = next(rule for rule in rules_of(maybe_twice) if rule.absent == ("b",))
    assert names(fuse(g, absent)) == ["maybe", "scale"]


@pytest.mark.parametrize("made", ["by hand", "fused"])
def test_a_fused_op_within_a_fused_op(made):
    """The inner one stands in the graph as itself, or as what it equals."""
    g = Graph()
    a, b, c = inputs(g)
    inner = plus_scale(a, b, by=2)[1] if made == "fused" else scale(plus(a, b), by=2)
    g.output("y", plus(inner, c))
    fused = fuse_equals(g, OPTIONS)
    assert names(fused) == ["plus_scale_plus"] and same(g, fused)
    types = plus_scale_plus.infer((F, F, F), {"by": 2})
    assert types == (F,) and plus_scale_plus.cost(F, F, F, by=2).flops == 3 * F.numel


def test_attributes_that_the_expression_computes():
    for second in (3, 4):
        g = Graph()
        a = inputs(g)[0]
        g.output("y", plus(scale(a, by=2), scale(a, by=second)))
        fused = fuse(g, rules_of(sum_of_two)[0])
        assert names(fused) == (["sum_of_two"] if second == 3 else ["plus", "scale", "scale"])
        assert same(g, fused)


def test_expansion_goes_all_the_way_and_shares_what_is_equal():
    g = Graph()
    a, b, c = inputs(g)
    g.output("x", plus_scale_plus(a, b, c, by=2))
    g.output("y", plus_scale_plus(a, b, a, by=2))
    expanded = expand(g, lambda node: True)
    assert names(expanded) == ["plus", "plus", "plus", "scale"] and same(g, expanded)
    assert names(expand(g, lambda node: False)) == ["plus_scale_plus"] * 2


@st.composite
def graphs(draw):
    g = Graph("random")
    values: list[Value] = inputs(g)
    kv = g.state("kv", KV)

    def pick():
        return values[draw(st.integers(0, len(values) - 1))]

    for _ in range(draw(st.integers(1, 25))):
        by = draw(st.integers(1, 3))
        match draw(st.sampled_from(["plus", "scale", "scale", "halves", "maybe", "append", "fused"])):
            case "plus":
                values.append(plus(pick(), pick()))
            case "scale":
                values.append(scale(pick(), by=by))
            case "halves":
                values += halves(pick())
            case "maybe":
                values.append(maybe(pick(), pick() if by == 1 else None))
            case "append":
                kv = append(kv, pick())
            case "fused":
                values += plus_scale(pick(), pick(), by=by)
    if kv.node.op is not None:
        g.update("kv", kv)
    for i in range(draw(st.integers(1, 3))):
        g.output(f"y{i}", values[-1 - i])
    return g


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_fusing_and_expanding_keep_the_meaning(graph):
    fused = fuse_equals(graph, OPTIONS)
    assert same(graph, fused)
    assert same(graph, expand(fused, lambda node: True))


BAD = {
    "gives an operand back": lambda a, b, *, by: (a, scale(b, by=by)),
    "ignores b": lambda a, b, *, by: scale(a, by=by),
    "ignores by": lambda a, b, *, by: plus(a, b),
    "branches on the attribute by": lambda a, b, *, by: plus(a, b) if by else plus(b, a),
    "which no op has made": lambda a, b, *, by: 7,
    "is 7, and no operand": lambda a, b, *, by: plus(scale(a, by=by), plus(b, 7)),
    "unsupported operand type": lambda a, b, *, by: scale(a + b, by=by),
}


@pytest.mark.parametrize("says", BAD)
def test_an_equals_that_is_no_rule_names_its_op(says):
    with pytest.raises(GraphError, match="op strange") as caught:

        @op(equals=BAD[says])
        def strange(a, b, *, by):
            """Something else."""

        rules_of(strange)
    assert says in str(caught.value)


def test_roles_come_from_the_ops_within():
    """Of a fused op's own declaration only what it says otherwise."""

    @op(types=lambda x, w: x, reference=lambda x, w: x, cost=lambda x, w: Cost(), roles={"w": "weight"})
    def product(x, w):
        """y = x w"""

    @op(equals=lambda a, v, b: plus(product(a, v), b), roles={"b": "bias"})
    def biased(a, v, b):
        """y = a v + b"""

    assert biased.roles == {"v": "weight", "b": "bias"}
    with pytest.raises(GraphError, match="cannot have the role 'wait'"):

        @op(equals=lambda a, b: plus(a, b), roles={"a": "wait"})
        def waiting(a, b):
            """a + b"""


def test_an_op_whose_expression_writes_a_state_says_so():
    """Or else its kernels would be given another place for the state's next version."""

    @op(equals=lambda kv, k, *, by: append(kv, scale(k, by=by)))
    def silent_append(kv, k, *, by):
        """kv with k * by"""

    with pytest.raises(GraphError, match="writes kv, and the op does not say so"):
        rules_of(silent_append)


def test_what_an_op_writes_is_an_operand_and_its_kernels_are_on_known_devices():
    with pytest.raises(GraphError, match="writes 'pages', which is no operand"):

        @op(equals=lambda a: scale(a, by=2), writes="pages")
        def stray(a):
            """a * 2"""

    with pytest.raises(GraphError, match="is on 'tpu'"):
        halves.kernel(on="tpu")(lambda site, y, a: None)


@op(types=lambda a, b: a, reference=lambda a, b: [x * y for x, y in zip(a, b, strict=True)], cost=lambda a, b: Cost())
def times(a, b):
    """y = a * b"""


@op(types=lambda a, *, at: a, reference=lambda a, *, at: a, cost=lambda a, *, at: Cost())
def placed(a, *, at):
    """y = a, at a place"""


# What each is while it is traced is not what it is at an int.
TWOFOLD = {
    "op": lambda a, b, *, by: (times if isinstance(by, int) else plus)(scale(a, by=by), b),
    "absence": lambda a, b, *, by: plus(scale(maybe(a, a if isinstance(by, int) else None), by=by), b),
    "presence": lambda a, b, *, by: plus(scale(maybe(a, None if isinstance(by, int) else a), by=by), b),
    "result": lambda a, b, *, by: plus(scale(halves(a)[isinstance(by, int)], by=by), b),
    "operand": lambda a, b, *, by: plus(scale(a, by=by), a if isinstance(by, int) else b),
    "depth": lambda a, b, *, by: plus(scale(scale(a, by=1) if isinstance(by, int) else a, by=by), b),
    "count": lambda a, b, *, by: (plus(scale(a, by=by), b), *([plus(a, a)] if isinstance(by, int) else [])),
}
TRACED = {
    "op": lambda a, b: plus(scale(a, by=3), b),
    "absence": lambda a, b: plus(scale(maybe(a), by=3), b),
    "presence": lambda a, b: plus(scale(maybe(a, a), by=3), b),
    "result": lambda a, b: plus(scale(halves(a)[0], by=3), b),
    "operand": lambda a, b: plus(scale(a, by=3), b),
    "depth": lambda a, b: plus(scale(a, by=3), b),
    "count": lambda a, b: plus(scale(a, by=3), b),
}


@pytest.mark.parametrize("differs", TWOFOLD)
def test_an_expression_that_branches_unseen_fuses_nothing_that_it_is_not(differs):
    """What it is at the attributes found is held against what was matched."""

    @op(equals=TWOFOLD[differs])
    def twofold(a, b, *, by):
        """One thing or another"""

    g = Graph()
    a, b, _ = inputs(g)
    g.output("y", TRACED[differs](a, b))
    assert "twofold" not in names(fuse(g, rules_of(twofold)[0]))


def test_an_attribute_within_a_tuple_is_read_off_there():
    @op(equals=lambda a, *, n, m: placed(a, at=[n, (m + 1, 7)]))
    def placed_so(a, *, n, m=2):
        """a at (n, (m + 1, 7))"""

    for at, fuses in (((4, (3, 7)), True), ((4, (3, 8)), False), ((4, (2, 7)), False), ((4, 3), False), (4, False)):
        g = Graph()
        g.output("y", placed(inputs(g)[0], at=at))
        (call,) = fuse(g, rules_of(placed_so)[0]).calls()
        assert call.op is (placed_so if fuses else placed)
        assert call.attrs == ({"n": 4, "m": 2} if fuses else {"at": at})


def test_attributes_are_matched_as_they_are():
    """0.0 is equal to -0.0, and 1 to True, and neither is the other."""
    for other in (0.0, -0.0, 0, False):
        g = Graph()
        a, b, _ = inputs(g)
        g.output("x", scale(a, by=0.0))
        g.output("y", scale(b, by=other))
        fused = fuse(g, rules_of(both_scaled)[0])
        assert names(fused) == (["both_scaled"] if repr(other) == "0.0" else ["scale", "scale"])


def test_ops_of_one_name_in_an_expression_are_two():
    other = namesake()

    @op(equals=lambda a, b: times(plus(a, b), other(a, b)))
    def product(a, b):
        """(a + b) * other"""

    g = Graph()
    a, b, _ = inputs(g)
    g.output("y", times(plus(a, b), plus(a, b)))
    assert rules_of(product)[0].size == 3 and names(fuse(g, rules_of(product)[0])) == ["plus", "times"]
