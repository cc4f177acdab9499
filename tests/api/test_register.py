"""Somebody's own file, registered: its op, type or architecture is found wherever Forge's own are, or nothing is."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from api.outsiders import ARCHITECTURE, OP, TYPE, write
from loading.gguf_draft import STRING, tiny_llama

import forge
from forge.compiled import GGUFSource
from forge.errors import GraphError, UnsupportedError, UsageError
from forge.gguf import GGUFFile
from forge.graph.text import parse_graph
from forge.graph.types import DTYPES, Sym, tensor
from forge.kernels import load
from forge.language import interpreted
from forge.models import architecture
from forge.models import load as load_architectures
from forge.quant import dense, format_of, formats, pack, random_blocks
from forge.target import TARGETS
from forge.verify import check, serving

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.skipif(interpreted(), reason="this is the interpreted run"),
    pytest.mark.usefixtures("unregistered"),
]


def everything():
    return {*load(), *DTYPES, *formats(), *load_architectures()}


def test_an_op_is_found_wherever_ops_are(tmp_path):
    module = forge.register(write(tmp_path, "cubes.py", OP))
    assert forge.kernels.cube is module.cube is load()["cube"] and "cube" in dir(forge.kernels)
    x = torch.randn(3, 8)
    torch.testing.assert_close(forge.kernels.cube(x), x**3)

    graph = forge.Graph("cubed")
    graph.output("y", forge.kernels.cube(graph.input("x", tensor("f32", Sym("T", max=8), 8))))
    parsed = parse_graph(str(graph), load())
    assert str(parsed) == str(graph)
    torch.testing.assert_close(forge.compile_graph(parsed, target="cpu").run({"x": x})["y"], x**3)

    served = [(op, case, kernel) for op, case, kernel, _ in serving(TARGETS["cpu"]) if op.name == "cube"]
    assert [case.name for _, case, _ in served] == ["f16", "f32"]
    for op, case, kernel in served:
        check(op, case, kernel, TARGETS["cpu"], "cpu")


def test_a_type_is_read_from_files(tmp_path):
    draft = tiny_llama()
    type = tensor("q4_0", 4, 64)
    raw = random_blocks(type, torch.Generator().manual_seed(2))
    draft = draft.tensor("blk.0.attn_q.weight", kind=901, dims=[64, 4], data=raw.numpy().tobytes())
    path = tmp_path / "mine.gguf"
    path.write_bytes(draft.write())
    with pytest.raises(UnsupportedError, match="ggml type 901"):
        GGUFFile.open(path)

    module = forge.register(write(tmp_path, "mine4.py", TYPE))
    found = GGUFFile.open(path).tensors["blk.0.attn_q.weight"].type
    assert found.dtype is module.MINE and str(found) == "mine4[4,64]" and format_of(found.dtype) is module.FORMAT
    packed = pack(found, GGUFSource(GGUFFile.open(path)).raw("blk.0.attn_q.weight"))
    assert torch.equal(dense(packed), dense(pack(type, raw)))

    graph = forge.Graph("own_type")
    x, w = graph.input("x", tensor("bf16", 2, 64)), graph.weight("w", found)
    graph.output("y", forge.kernels.linear(x, w, out="f32"))
    parsed = parse_graph(str(graph), load())
    x = torch.randn(2, 64).bfloat16()
    y = forge.compile_graph(parsed, target="cpu", weights={"w": packed}).run({"x": x})["y"]
    torch.testing.assert_close(y, x.float() @ dense(packed).bfloat16().float().T, rtol=1e-2, atol=1e-2)


def test_an_architecture_is_that_of_files(tmp_path):
    draft = tiny_llama().set("general.architecture", STRING, "llamalike")
    draft.entries = {str(k).replace("llama.", "llamalike.", 1): v for k, v in draft.entries.items()}
    path = tmp_path / "like.gguf"
    path.write_bytes(draft.write())
    with pytest.raises(UnsupportedError, match="architecture is 'llamalike'"):
        forge.compile(path, target="cpu")
    module = forge.register(write(tmp_path, "like.py", ARCHITECTURE))
    assert architecture("llamalike") is module.family
    assert forge.compile(path, target="cpu").model.name == "llamalike"


def test_registering_the_same_again_changes_nothing(tmp_path, monkeypatch):
    path = write(tmp_path, "cubes.py", OP)
    module = forge.register(path)
    before = everything()
    assert forge.register(str(path)) is module
    assert forge.register(module) is module
    monkeypatch.chdir(tmp_path)
    assert forge.register("cubes.py") is module and everything() == before
    path.write_text(OP + "\n# later\n")
    with pytest.raises(UsageError, match=r"cubes\.py has changed since it was registered"):
        forge.register(path)


def test_a_module_that_is_imported_already_is_not_executed_again(tmp_path, monkeypatch):
    path = write(tmp_path, "cubes_by_name.py", OP)
    monkeypatch.syspath_prepend(tmp_path)
    module = forge.register("cubes_by_name")
    monkeypatch.setitem(sys.modules, "cubes_by_name", module)
    assert module is importlib.import_module("cubes_by_name") is forge.register(path)
    assert forge.kernels.cube is module.cube


def test_a_name_that_is_taken_is_an_error_that_names_both_places(tmp_path):
    before = everything()
    taken = write(tmp_path, "taken.py", OP.replace("cube", "swiglu") + OP)
    with pytest.raises(UsageError, match=r"op swiglu is defined in .*kernels/swiglu\.py and in .*taken\.py"):
        forge.register(taken)
    forge.register(write(tmp_path, "one.py", OP))
    with pytest.raises(UsageError, match=r"op cube is defined in .*one\.py and in .*two\.py"):
        forge.register(write(tmp_path, "two.py", OP))
    assert everything() == before | {"cube"}
    twice = OP.replace("cube", "square") + "\nfirst = square\n" + OP.replace("cube", "square")
    with pytest.raises(UsageError, match=r"op square is defined in .*twice\.py and in .*twice\.py"):
        forge.register(write(tmp_path, "twice.py", twice))
    for text, what in (
        (TYPE.replace("mine4", "q4_1"), "element type q4_1 is defined in Forge itself and in"),
        (TYPE.replace("901", "2"), "has the number 2 in GGUF files, which is q4_0's"),
        (ARCHITECTURE.replace('name="llamalike"', "tiny={}"), "architecture llama is defined"),
        (OP.replace("cube", "load"), r"op load cannot be reached as forge\.kernels\.load"),
        (TYPE.replace('MINE = DType("mine4", 32, 18, gguf=901)', ""), "format mine4 has no element type"),
    ):
        with pytest.raises(UsageError, match=what):
            forge.register(write(tmp_path, f"taken{abs(hash(what))}.py", text))
    assert everything() == before | {"cube"}


def test_a_file_that_fails_leaves_nothing_half_registered(tmp_path):
    before, modules = everything(), set(sys.modules)
    kernels = dict(forge.kernels.swiglu.kernels)
    added = "\n\n@forge.kernels.swiglu.kernel(on='cpu')\ndef swiglu_mine(site, y, gate, up): ...\n"
    path = write(tmp_path, "failing.py", OP + TYPE + added + "\n1 / 0\n")
    with pytest.raises(UsageError, match=r"failing\.py cannot be imported: ZeroDivisionError"):
        forge.register(path)
    assert everything() == before and forge.kernels.swiglu.kernels == kernels and set(sys.modules) == modules
    path.write_text(OP + TYPE + added)
    assert forge.register(path).swiglu_mine in forge.kernels.swiglu.kernels.values(), "mended, it registers"
    assert everything() == before | {"cube", "mine4"}


def test_what_cannot_be_registered_is_refused(tmp_path):
    for source, what in (
        (17, "register takes no int"),
        (tmp_path, "is no Python file"),
        (tmp_path / "absent.py", "is no Python file"),
        ("no_such_module_anywhere", "no_such_module_anywhere cannot be imported: ModuleNotFoundError"),
        (write(tmp_path, "empty.py", "x = 1\n"), "defines no op, kernel, element type, format or architecture"),
    ):
        with pytest.raises(UsageError, match=what):
            forge.register(source)


@pytest.mark.parametrize(
    "expression",
    ["x", "()", "None", "add(x, x) if by else x", "1 / 0", "add(x, scale(x, factor=by) + 1)"],
    ids=["its operand", "nothing", "None", "a branch", "another error", "arithmetic on results"],
)
def test_a_fused_op_that_cannot_be_a_rule_is_refused_when_it_is_registered(tmp_path, expression):
    """Or else it would be found by the fuse pass, and no graph would compile any more."""
    text = f"""
import forge
from forge.kernels.add import add
from forge.kernels.scale import scale

@forge.op(equals=lambda x, *, by: {expression})
def bad(x, *, by):
    '''y[T,F] = ?'''
"""
    with pytest.raises(GraphError, match="op bad: its `equals`"):
        forge.register(write(tmp_path, "bad.py", text))
    assert "bad" not in load()
