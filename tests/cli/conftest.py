"""What the command line's tests share: `forge` as a call, one loaded default model a worker, and a tiny model file."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forge.cli import main

ROOT = Path(__file__).parents[2]


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def forge(capsys):
    """`forge("show", "--json")` runs the command in this process."""

    def run(*argv: str) -> Result:
        code = main([str(a) for a in argv])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def synthetic():
    """The module benchmarks/synthetic.py."""
    spec = importlib.util.spec_from_file_location("synthetic", ROOT / "benchmarks" / "synthetic.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthetic"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_shape(synthetic):
    return synthetic.Shape("llama", 2, 64, 96, 4, 2, 32, 8200, 1e4, 1e-5, context=128)


@pytest.fixture(scope="session")
def tiny_model(synthetic, tiny_shape, tmp_path_factory) -> Path:
    """A model of two layers, which loads in no time."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    synthetic.write(synthetic.synthetic(tiny_shape, "Q8_0"), path)
    return path


@pytest.fixture(scope="session")
def _kept():
    kept: dict[str, Any] = {}
    yield kept
    for llm, close in kept.values():
        close(llm)


@pytest.fixture
def one_llm(_kept, monkeypatch):
    """`forge run` opens the default model once in a worker; later runs get the same one. Gives the kept models."""
    import forge.api

    real = forge.api.LLM

    def open_once(path, *, progress=None, **options):
        key = f"{path} {sorted(options.items())}"
        if key not in _kept:
            _kept[key] = real(path, progress=progress, **options), real.close
        return _kept[key][0]

    monkeypatch.setattr(real, "close", lambda self: None)
    monkeypatch.setattr(forge.api, "LLM", open_once)
    return _kept
