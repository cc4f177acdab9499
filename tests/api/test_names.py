"""The public names: where they lead, in any order of imports, and what using them imports."""

from __future__ import annotations

import itertools

import pytest
from api.outsiders import python

import forge
from forge.graph.op import Op
from forge.kernels import load
from forge.language import interpreted

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

IMPORTS = {
    "the attribute": "assert forge.kernels.linear.name == 'linear'",
    "the op from its file": "from forge.kernels.linear import linear; assert linear.name == 'linear'",
    "the op from the package": "from forge.kernels import linear; assert linear.name == 'linear'",
    "a file within the folder": "from forge.kernels.linear.cpu import is_head; assert callable(is_head)",
    "all ops": "from forge.kernels import load; assert forge.kernels.linear is load()['linear']",
    "the module": "import importlib; assert importlib.import_module('forge.kernels.linear').__name__[-7:] == '.linear'",
}


def test_public_names_lead_somewhere():
    assert set(forge.__all__) <= set(dir(forge))
    for name in forge.__all__:
        assert getattr(forge, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'operator'"):
        _ = forge.operator


def test_the_package_gives_every_op():
    assert set(load()) <= set(dir(forge.kernels))
    for name, op in load().items():
        assert getattr(forge.kernels, name) is op and isinstance(op, Op)
    assert forge.kernels.fills.__name__ == "forge.kernels.fills", "a file without an op of its name is a module"
    with pytest.raises(AttributeError, match=r"no op is called 'swigloo'; forge.kernels has add, .*swiglu"):
        _ = forge.kernels.swigloo
    with pytest.raises(ImportError):
        exec("from forge.kernels import swigloo")


def test_an_op_is_the_op_in_whatever_order_things_are_imported():
    """What comes first and what comes next; of more, nothing is imported anew."""
    orders = "\n".join(f"run({list(order)})" for order in itertools.permutations(IMPORTS.values(), 2))
    fresh = """
import importlib
def run(lines):
    for name in [n for n in sys.modules if n == "forge" or n.startswith("forge.")]:
        del sys.modules[name]
    namespace = {"forge": importlib.import_module("forge")}
    for line in lines:
        exec(line, namespace)
"""
    done = python(fresh + orders)
    assert done.returncode == 0, done.stderr


def test_names_import_no_more_than_they_need():
    done = python("""
def heavy():
    return [m for m in ("torch", "triton", "numpy", "gguf") if m in sys.modules]
import forge
assert not heavy(), heavy()
forge.op, forge.Case, forge.Cost, forge.Space, forge.expect, forge.tensor, forge.register, forge.Graph, dir(forge)
assert not heavy(), heavy()
forge.kernels.swiglu
assert "torch" not in sys.modules and "forge.kernels.rope" not in sys.modules
""")
    assert done.returncode == 0, done.stderr


def test_no_module_reads_a_registry_while_it_is_imported():
    """An extension could otherwise be imported in the middle of a module that it needs."""
    done = python("""
import importlib, pkgutil
from forge.registry import Registry
def refuse(self):
    raise AssertionError("a registry is read at import")
Registry._read = refuse
import forge
for module in pkgutil.walk_packages(forge.__path__, "forge."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
""")
    assert done.returncode == 0, done.stderr
