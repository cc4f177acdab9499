"""The documents' own code runs, its kernels meet their oracles, and the faults that the documents name are seen."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest
from docs.documents import DOCS, DOCUMENTS, blocks, runnable
from kernels.harness import INTERPRETER, OPS

from forge.errors import FileFormatError, NumericsError, UnsupportedError
from forge.graph.op import Case
from forge.graph.types import tensor
from forge.language import interpreted
from forge.quant import registry
from forge.target import TARGETS
from forge.verify import check

CPU = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
INTERPRET = [pytest.mark.interpret, pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")]
EXAMPLES = [path for path in DOCUMENTS if runnable(path).strip()]

# The faults of the documents' tables: (what stands there, what it becomes).
KERNEL_FAULTS = {
    "short mask": ("mask = column < F", "mask = column < F - 1"),
    "NaN dropped": ("tl.where(x < 0.0, 0.0, x)", "tl.maximum(x, 0.0)"),
    "wrong stride": ("row * x_stride", "row * y_stride"),
}
CPU_FAULTS = {"clamped from above": ("min=0, out=y", "max=0, out=y")}
VALUE_FAULTS = {
    "wrong bit": ("words.bits_of(blocks[:, 4:8], 4)", "words.bits_of(blocks[:, 4:8], 3)"),
    "wrong sign": ("scale, -addend", "scale, addend"),
}
DEVICE_FAULTS = {
    "lost bit": ("codes=decode.codes_5", "codes=decode.codes_4"),
    "lost minimum": ("minimum=True", "minimum=False"),
}
FILE = "internlm2.model(metadata, tensors)"
REFUSALS = {
    "tensor that is missing": (
        FILE,
        'internlm2.model(metadata, {n: t for n, t in tensors.items() if n != "blk.0.attn_q.weight"})',
        FileFormatError,
        "blk.0.attn_q.weight is missing",
    ),
    "key": (
        FILE,
        'internlm2.model(metadata | {"internlm2.attention.gate": 1}, tensors)',
        UnsupportedError,
        "attention.gate",
    ),
    "tensor that nothing uses": (
        FILE,
        'internlm2.model(metadata, tensors | {"blk.0.attn_gate.weight": tensors["output_norm.weight"]})',
        UnsupportedError,
        "nothing uses: blk.0.attn_gate.weight",
    ),
    "size": (
        FILE,
        'internlm2.model(metadata | {"internlm2.feed_forward_length": 128}, tensors)',
        FileFormatError,
        "tensor blk.0.ffn_gate.weight",
    ),
}


def execute(source: str, folder, name: str) -> ModuleType:
    """`source` as a module in a file of its own, as Triton reads a kernel's text from there."""
    path = folder / f"example_{name.replace('-', '_')}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where dataclasses look for the module they are declared in
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module


def first_block(document: str, folder, fault: tuple[str, str] | None = None) -> ModuleType:
    """The file that the document writes, or the same with one fault."""
    source = blocks(DOCS / document, "python run")[0][1]
    if fault is not None:
        assert source.count(fault[0]) == 1, f"{fault[0]!r} must stand once in {document}"
        source = source.replace(*fault)
    return execute(source, folder, document.removesuffix(".md"))


def check_op(op, target) -> None:
    """What the generated tests do with the op: every case on every kernel of the target."""
    for kernel in op.kernels.values():
        if kernel.on == target.kind:
            for case in op.cases:
                check(op, case, kernel, target, "cpu")


def check_device_functions(form, monkeypatch) -> None:
    """`dequantize` on two rows of two blocks, in the interpreter, with `form` in the place of the format it is."""
    known = {**registry.formats(), form.name: form}
    monkeypatch.setattr(registry, "formats", lambda: known)
    case = Case(form.name, (tensor(form.name, 2, 2 * form.dtype.block),), {"out": "f32"})
    check(OPS["dequantize"], case, OPS["dequantize"].kernels["dequantize_tile"], INTERPRETER, "cpu")


def execute_model_page(folder, fault: tuple[str, str] | None = None) -> ModuleType:
    """The whole page on models, or the same with one fault."""
    source = runnable(DOCS / "adding-a-model.md")
    if fault is not None:
        assert source.count(fault[0]) == 1, f"{fault[0]!r} must stand once"
        source = source.replace(*fault)
    return execute(source, folder, "adding-a-model")


def marked(faults, marks):
    return [pytest.param(fault, id=name, marks=marks) for name, fault in faults.items()]


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize("document", [pytest.param(p, id=p.stem, marks=CPU) for p in EXAMPLES])
def test_the_examples_run(document, tmp_path):
    execute(runnable(document), tmp_path, document.stem)


@pytest.mark.cpu
def test_no_document_has_lost_its_examples():
    names = {p.name for p in EXAMPLES}
    recipes = {"adding-a-kernel.md", "adding-a-type.md", "adding-a-model.md", "extending.md"}
    assert names >= {"README.md", "architecture.md", *recipes}


@pytest.mark.parametrize(
    "target",
    [pytest.param(TARGETS["cpu"], marks=CPU, id="cpu"), pytest.param(INTERPRETER, marks=INTERPRET, id="interpreter")],
)
@pytest.mark.parametrize(("document", "name"), [("adding-a-kernel.md", "relu2"), ("extending.md", "soft_cap")])
def test_the_documented_kernel_meets_its_oracle(target, document, name, tmp_path):
    check_op(getattr(first_block(document, tmp_path), name), target)


@pytest.mark.parametrize("fault", marked(CPU_FAULTS, CPU) + marked(KERNEL_FAULTS, INTERPRET))
def test_the_kernel_s_faults_are_seen(fault, tmp_path):
    broken = first_block("adding-a-kernel.md", tmp_path, fault).relu2
    with pytest.raises(NumericsError, match="relu2"):
        check_op(broken, INTERPRETER if interpreted() else TARGETS["cpu"])


@pytest.mark.parametrize("fault", marked(VALUE_FAULTS, CPU))
def test_the_type_s_faults_in_values_are_seen(fault, tmp_path):
    source = runnable(DOCS / "adding-a-type.md")
    assert source.count(fault[0]) == 1
    with pytest.raises(AssertionError):
        execute(source.replace(*fault), tmp_path, "broken-type")


@pytest.mark.parametrize("fault", marked({"none": None} | DEVICE_FAULTS, INTERPRET))
def test_the_type_s_faults_on_a_device_are_seen(fault, tmp_path, monkeypatch):
    form = first_block("adding-a-type.md", tmp_path, fault).FORMAT
    if fault is None:
        check_device_functions(form, monkeypatch)
        return
    with pytest.raises(NumericsError, match="dequantize"):
        check_device_functions(form, monkeypatch)


@pytest.mark.parametrize(
    ("old", "new", "error", "words"), [pytest.param(*row, id=name, marks=CPU) for name, row in REFUSALS.items()]
)
def test_the_documented_architecture_refuses_what_it_cannot_compute(old, new, error, words, tmp_path):
    with pytest.raises(error, match=words):
        execute_model_page(tmp_path, (old, new))


@pytest.mark.cpu
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
def test_only_a_golden_sees_a_wrong_pair(tmp_path):
    """As the page on models warns: its own checks pass with the wrong rotation."""
    execute_model_page(tmp_path, ('"norm", heads.width', '"neox", heads.width'))


@pytest.mark.cpu
def test_the_documents_tell_of_these_faults():
    """The tables name what is tested here, so that they stay true."""
    for document, faults in (
        ("adding-a-kernel.md", KERNEL_FAULTS | {"": ("min=0", "max=0")}),
        ("adding-a-type.md", VALUE_FAULTS | DEVICE_FAULTS),
    ):
        text = (DOCS / document).read_text()
        for old, new in faults.values():
            assert f"`{old}` becomes `{new}`" in text, f"{document} does not tell of {old!r}"
