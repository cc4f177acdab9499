"""What the documents say of the repository is so: links, paths, commands, and the lists of what is supported."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from docs.documents import DOCS, DOCUMENTS, ROOT, blocks

from forge import cli
from forge.api import DEFAULT_MODEL
from forge.gguf import GGUFFile
from forge.graph.passes import PIPELINE
from forge.graph.types import tensor
from forge.kernels import load as load_ops
from forge.lower.select import call_of
from forge.models import load as load_architectures
from forge.quant import formats
from forge.target import AMD_VERIFIED, TARGETS
from forge.tune.store import TuningStore

pytestmark = pytest.mark.cpu

README = (ROOT / "README.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
EVERY = [pytest.param(path, id=path.stem) for path in (*DOCUMENTS, ROOT / "CHANGELOG.md")]
# What the recipes tell the reader to write, and what only a wheel has.
TO_WRITE = {"forge/kernels/relu2.py", "forge/_tuning"}


@pytest.mark.parametrize("path", EVERY)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", EVERY)
def test_paths_that_are_named_exist(path):
    """`forge/...`, `tests/...` and the like in backticks, but for those with a <placeholder>."""
    for named in re.findall(r"`((?:forge|tests|docs|tuning|benchmarks)/[^`\s]*)`", path.read_text()):
        if "<" not in named and named not in TO_WRITE:
            assert list(ROOT.glob(named.rstrip("/"))), f"{path.name} names {named}"


def commands(path: Path) -> list[str]:
    """The lines of shell blocks, and the `forge ...` and `make ...` in running text."""
    lines = [line for _, text in blocks(path, "sh") for line in text.splitlines()]
    return lines + re.findall(r"`((?:forge|make) [^`]+)`", path.read_text())


@pytest.mark.parametrize("path", EVERY)
def test_commands_are_ones_that_exist(path, capsys):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for command in commands(path):
        words = shlex.split(command, comments=True)
        if words[:1] == ["make"]:
            assert words[1] in targets, f"{path.name} says {command!r}"
        elif words[:1] == ["forge"]:
            try:
                cli._parser().parse_args(words[1:])
            except SystemExit:
                pytest.fail(f"{path.name} says {command!r}: {capsys.readouterr().err}")


@pytest.mark.parametrize("path", EVERY)
def test_excerpts_are_of_the_code(path):
    """Python that is not run stands in the code, word for word; two empty lines part what is quoted from two places."""
    code = [p.read_text() for p in (ROOT / "forge").rglob("*.py")]
    for _, text in blocks(path, "python"):
        for part in text.strip().split("\n\n\n"):
            assert any(part in file for file in code), f"{path.name} quotes what is not there:\n{part}"


def test_the_documented_type_is_the_real_file():
    text = blocks(DOCS / "adding-a-type.md", "python run")[0][1]
    assert text == (ROOT / "forge" / "quant" / "q5_1.py").read_text()


def sentence(text: str, begin: str) -> set[str]:
    """The words of the list that follows `begin` up to the full stop."""
    found = re.search(re.escape(begin) + r"(.*?)\.(?:\s|$)", text, re.S)
    assert found, f"no sentence begins with {begin!r}"
    return set(re.findall(r"\w+", found[1]))


def test_what_runs_is_all_that_runs():
    families = README.split("Architectures: ")[1].split("Types:")[0]
    assert set(re.findall(r"`(\w+)`", families)) == set(load_architectures())
    types = {name.upper() for name, form in formats().items() if not form.dtype.activation}
    assert sentence(README, "Types:") == types
    assert sentence(CHANGELOG, "**Types**:") >= types


def test_the_changelog_names_every_op():
    listed = set(re.findall(r"\w+", CHANGELOG.split("**Kernels**")[1].split("**Types**")[0]))
    assert listed >= {name for name, op in load_ops().items() if not op.view}
    for name, op in load_ops().items():
        runs_everywhere = op.view or op.equals is not None or {k.on for k in op.kernels.values()} == {"gpu", "cpu"}
        assert runs_everywhere, f"{name} lacks a kernel, and nothing that it equals is told"


def test_the_targets_are_in_the_table():
    compiled = next(line for line in README.splitlines() if "compiled:" in line)
    assert set(re.findall(r"gfx\w+", compiled)) == set(AMD_VERIFIED)
    described = next(line for line in README.splitlines() if "described in" in line)
    assert set(re.findall(r"gfx\w+|sm_\w+", described)) == TARGETS.keys() - {*AMD_VERIFIED, "sm_90", "cpu"}


def test_the_default_model_is_as_described():
    with GGUFFile.open(DEFAULT_MODEL) as gguf:
        parameters = sum(t.type.numel for t in gguf.tensors.values())
        context, vocab = gguf.metadata["llama.context_length"], len(gguf.metadata["tokenizer.ggml.tokens"])
    assert f"{parameters / 1e6:.1f} million" in README.replace("\n", " ")
    assert f"{DEFAULT_MODEL.stat().st_size / 1e6:.0f} MB" in README
    assert f"{vocab:,} tokens" in README and f"context of {context:,}" in README


def test_the_passes_are_those_of_the_pipeline():
    table = re.findall(r"^\| `(\w+)` \|", (DOCS / "architecture.md").read_text().split("**5.")[0], re.M)
    assert table[-len(PIPELINE) :] == [name for name, _ in PIPELINE]


def test_the_tuning_entry_is_one_that_the_store_takes(tmp_path):
    text = blocks(DOCS / "tuning.md", "json")[0][1]
    (tmp_path / "gfx942").mkdir()
    (tmp_path / "gfx942" / "flash_attention.json").write_text(text)
    flash = load_ops()["flash_attention"]
    q, kv = tensor("f16", 1, 64, 8, 128), tensor("f16", 1, 64, 2, 128)
    attrs = {"causal": True, "scale": 0.1, "window": 0, "softcap": 0.0}
    call = call_of(flash, (q, kv, kv), attrs, TARGETS["gfx942"])
    choice = TuningStore(tmp_path).get(flash.kernels["flash_rows"], call)
    assert choice.source == "exact" and choice.config == json.loads(text)[0]["config"]


def test_the_readme_is_short():
    assert len(README.splitlines()) < 150
