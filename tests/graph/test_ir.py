"""Values, hash-consing, state and verification."""

from __future__ import annotations

import gguf
import pytest
from graph.toy import KV, OPS, F, append, maybe, namesake, plus, plus_scale, recall, scale

from forge.errors import FileFormatError, GraphError, ShapeError
from forge.graph.evaluate import evaluate
from forge.graph.ir import Graph
from forge.graph.leaves import Part
from forge.graph.op import Cost, op
from forge.graph.text import parse_graph
from forge.graph.types import DTYPES, DType, StateType, Sym, TensorType, tensor
from forge.graph.verify import verify

pytestmark = pytest.mark.null
INF = float("inf")


@pytest.mark.parametrize("kind", [k for k in gguf.GGML_QUANT_SIZES if k.name not in ("Q8_1", "Q8_K")])
def test_block_sizes_are_gguf_s(kind):
    ours = next(d for d in DTYPES.values() if d.name.lower() == kind.name.lower())
    assert (ours.block, ours.nbytes) == gguf.GGML_QUANT_SIZES[kind]
    assert ours.gguf == kind.value


def test_a_type_prints_binds_and_counts():
    type = tensor("q4_K", Sym("T", 8), 512)
    assert str(type) == "q4_K[T,512]"
    assert type.bind({"T": 3}).nbytes == 3 * 2 * 144
    assert type.upper().concrete() == (8, 512)
    with pytest.raises(GraphError, match="unbound dimension T"):
        type.concrete()
    with pytest.raises(GraphError, match="whole blocks"):
        tensor("q4_K", 2, 100)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: tensor("f32", 1.5),
        lambda: tensor("f32", "T"),
        lambda: tensor("f32", None),
        lambda: Sym("T", 1.5),
        lambda: Sym(3, 4),
        lambda: DType("odd", 0, 4),
        lambda: DType("odd", 32, 1.5),
        lambda: DType("odd", 32, 0),
    ],
)
def test_sizes_are_whole_numbers(wrong):
    with pytest.raises(GraphError):
        wrong()


def test_equal_calls_are_one_node():
    g = Graph()
    a, b = g.input("a", F), g.input("b", F)
    assert plus(a, b) == plus(a, b)
    assert plus(a, b) != plus(b, a)
    assert scale(a, by=2) != scale(a, by=3)
    assert g.input("a", F) == a
    assert len(g.nodes) == 6


def test_a_shape_error_names_the_op_and_its_operands():
    g = Graph()
    with pytest.raises(ShapeError, match=r"plus\(a: f32\[4\], b: f32\[5\]\): a and b must have one type"):
        plus(g.input("a", F), g.input("b", tensor("f32", 5)))


def test_wrong_arguments_and_foreign_values_are_errors():
    g, other = Graph("g"), Graph("other")
    with pytest.raises(GraphError, match="scale"):
        scale(g.input("a", F))
    with pytest.raises(GraphError, match="belongs to another graph, 'other'"):
        plus(g.input("a", F), other.input("a", F))
    with pytest.raises(GraphError, match="declared twice"):
        g.input("a", tensor("f32", 9))


def test_evaluate_runs_the_references_and_updates_state():
    g = Graph()
    a = g.input("a", F)
    kv = append(g.state("kv", KV), scale(a, by=3))
    g.update("kv", kv)
    g.output("y", plus(recall(kv), a))
    outputs, states = evaluate(verify(g), {"a": [1, 2, 3, 4]}, lambda n: None, {"kv": [0] * 8})
    assert outputs == {"y": [4, 8, 12, 16]}
    assert states == {"kv": [0, 0, 0, 0, 3, 6, 9, 12]}
    with pytest.raises(GraphError, match="input a"):
        evaluate(g, {}, lambda n: None, {"kv": [0] * 8})


def test_optional_operands_and_derived_types():
    g = Graph()
    a, b = g.input("a", F), g.input("b", F)
    assert maybe(a).node.inputs == (a, None)
    total, product = plus_scale(a, b, by=2)
    assert (total.type, product.type) == (F, F)
    assert plus_scale.reference([1], [2], by=2) == ([3], [6])
    assert plus_scale.cost(F, F, by=2).flops == 8


def writers(count, *, update=True, stale=False):
    g = Graph()
    x, old = g.input("x", F), g.state("kv", KV)
    versions = [append(old, scale(x, by=i)) for i in range(count)]
    if update:
        g.update("kv", versions[0])
    g.output("y", recall(old if stale else versions[0]))
    return g


def test_state_is_linear():
    verify(writers(1))
    with pytest.raises(GraphError, match="written twice"):
        verify(writers(2))
    with pytest.raises(GraphError, match=r"after .* has written over it"):
        verify(writers(1, stale=True))
    with pytest.raises(GraphError, match="no update names"):
        verify(writers(1, update=False))


def test_symbols_have_one_bound():
    g = Graph()
    g.input("a", TensorType((Sym("T", 4),), F.dtype))
    g.input("b", TensorType((Sym("T", 5),), F.dtype))
    with pytest.raises(GraphError, match="two bounds"):
        verify(g)
    assert set(OPS) == {"plus", "scale", "maybe", "append", "recall", "plus_scale"}


def test_the_text_of_leaves_reads_back():
    g = Graph("leaves")
    g.weight(("a", Part("b", 0, 3, 5), Part('c"d', 1, 0, 32)), tensor("q8_0", 4, 32), axis=1)
    g.weight(Part("a", 2, 7), tensor("f32", 2, 2, 9))
    g.constant("table", tensor("f32", 2, 2), (0.5, float("inf"), -1e-9, float("nan")))
    g.constant("ids", tensor("i32", 3), (1, -2, 3))
    g.state("kv", StateType((4,), tensor("f16").dtype))
    text = str(g)
    assert '"b"[3:5] "c\\"d"[:, 0:32] axis=1' in text and "(0.5, inf, -1e-09, nan)" in text
    assert str(parse_graph(text, {})) == text


def test_a_constant_holds_as_many_numbers_as_elements_and_one_content():
    g = Graph()
    table = g.constant("t", tensor("f32", 2), (1, 2))
    assert g.constant("t", tensor("f32", 2), [1.0, 2.0]) == table
    with pytest.raises(GraphError, match="different contents"):
        g.constant("t", tensor("f32", 2), (1, 3))
    with pytest.raises(GraphError, match="cannot hold 3 numbers"):
        g.constant("u", tensor("f32", 2), (1, 2, 3))
    with pytest.raises(GraphError, match="cannot hold"):
        g.constant("q", tensor("q8_0", 32), [0] * 32)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("i32", 1.5),
        ("i32", 2**31),
        ("i8", -129),
        ("i32", float("nan")),
        ("i32", float("inf")),
        ("f32", "1"),
        ("bool", 2),
        ("u8", -1),
        ("u8", 256),
    ],
)
def test_a_constant_holds_no_number_that_its_type_does_not(dtype, value):
    with pytest.raises(GraphError, match=f"constant table of {dtype}"):
        Graph().constant("table", tensor(dtype, 2), [0, value])


def test_a_constant_holds_the_ends_of_its_type():
    assert Graph().constant("table", tensor("i8", 2), [-128, 127.0]).node.leaf.values == (-128, 127)
    assert Graph().constant("table", tensor("u8", 2), [0, 255]).node.leaf.values == (0, 255)


@pytest.mark.parametrize("axis", [-1, 2, "0", True, 0.5])
def test_a_weight_is_stacked_along_an_axis_it_has(axis):
    with pytest.raises(GraphError, match="cannot be stacked along the axis"):
        Graph().weight(["a", "b"], tensor("f32", 8, 8), axis=axis)


@pytest.mark.parametrize("wrong", [3, [3], ["w", None], Graph()])
def test_a_weight_is_made_of_names_and_parts(wrong):
    with pytest.raises(GraphError, match="a part is"):
        Graph().weight(wrong, tensor("f32", 8))


@pytest.mark.parametrize("place", [("w", 0, 1.5, 2), ("w", "0", 0, 1), ("w", 0, True, None), (3, 0, 0, 1)])
def test_a_part_is_counted_in_ints(place):
    with pytest.raises(GraphError, match="a part is"):
        Part(*place)


def test_an_output_is_a_value_and_named_once():
    g = Graph()
    a, b = g.input("a", F), g.input("b", F)
    for wrong in (None, 3, (a, b)):
        with pytest.raises(GraphError, match="no value of a graph"):
            g.output("y", wrong)
        with pytest.raises(GraphError, match="no value of a graph"):
            g.update("kv", wrong)
    g.output("y", a)
    g.output("y", a)
    with pytest.raises(GraphError, match="output y is named twice"):
        g.output("y", b)


@pytest.mark.parametrize("name", ["a\nb", "\x00", "a\u2028b", "\x85", "\\n", 'é"\\', "my graph", "", "a (b)"])
def test_the_text_of_any_name_parses_back(name):
    g = Graph(name)
    g.output(name, g.input(name, F))
    parsed = parse_graph(str(g), OPS)
    assert str(parsed) == str(g) and list(parsed.outputs) == [name] and parsed.name == name


@pytest.mark.parametrize("by", [INF, -INF, float("nan"), (INF, (-INF, 1)), "%0", ("%0.1 it's", '"%1'), (), "a : b"])
def test_the_text_of_an_attribute_of_any_kind_parses_back(by):
    g = Graph()
    g.output("y", scale(g.input("x", F), by=by))
    parsed = parse_graph(str(g), OPS)
    assert str(parsed) == str(g) and repr(parsed.outputs["y"].node.attrs["by"]) == repr(by)


@pytest.mark.parametrize("header", ["graph g (T<=x)", "graph g (T)", "graph g (T<=0)", "graph a (T<=3) ()"])
def test_a_header_that_is_none_names_its_line(header):
    with pytest.raises(FileFormatError, match="line 1"):
        parse_graph(header, OPS)


def test_ops_of_one_name_are_two_nodes():
    g = Graph()
    a, b = g.input("a", F), g.input("b", F)
    assert namesake()(a, b) != plus(a, b)


@pytest.mark.parametrize("pair", [(0.0, -0.0), (1, True), (1, 1.0), ((0.0,), (-0.0,)), ((1,), (True,))])
def test_calls_whose_attributes_are_equal_and_not_the_same_are_two_nodes(pair):
    a = Graph().input("a", F)
    first, second = (scale(a, by=by) for by in pair)
    assert first != second and scale(a, by=pair[0]) == first
    assert repr(second.node.attrs["by"]) == repr(pair[1])


@pytest.mark.parametrize("by", [{"x": 1}, [[1, 2]], {1}])
def test_an_attribute_that_is_no_key_of_a_call_is_refused(by):
    with pytest.raises(GraphError, match=r"scale: the attributes \{'by': "):
        scale(Graph().input("a", F), by=by)


def test_a_type_rule_gives_as_many_results_as_are_declared():
    @op(types=lambda a: a, reference=lambda a: (a, a), cost=lambda a: Cost(), results=2)
    def twins(a):
        """(a, a)"""

    with pytest.raises(GraphError, match="op twins: its type rule gives 1 types, and it declares results=2"):
        twins(Graph().input("a", F))
