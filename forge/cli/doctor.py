"""Look at this machine: versions, devices, what works, and what to do about the rest.

Exits with 0 if models can run here, else with 1. Works where torch or Triton are missing or broken.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from forge.cli.terminal import emit, emit_json
from forge.errors import ForgeError, NumericsError

SUMMARY = "devices, versions, what works and what to do about the rest"

OK, NOTE, FAIL = "ok", "note", "fail"
OLDEST_PYTHON = (3, 11)
REQUIRED = {"torch": "torch", "numpy": "numpy", "gguf": "gguf", "tokenizers": "tokenizers", "jinja2": "Jinja2"}
TRITON_REMEDY = "on AMD: the triton that comes with torch's ROCm build; otherwise: pip install triton"
CROSS_TARGET = "gfx942"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it stands ("ok", "note": models run all the same, "fail"), and what to do."""

    name: str
    status: str
    detail: str
    remedy: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    findings = list(examine())
    works = all(f.status != FAIL for f in findings)
    if args.json:
        emit_json({"works": works, "findings": [asdict(f) for f in findings]})
        return 0 if works else 1
    width = max(len(f.name) for f in findings)
    for finding in findings:
        emit(f"{finding.status:<5} {finding.name:<{width}}  {finding.detail}")
        if finding.remedy:
            emit(f"{'':<5} {'':<{width}}  try: {finding.remedy}")
    emit("\nModels can run here." if works else "\nModels cannot run here: mend what is marked fail.")
    return 0 if works else 1


def examine() -> Iterator[Finding]:
    """Every finding, in the order in which one depends on another."""
    yield _python()
    packages = [_package(module, package, FAIL, f"pip install {package}") for module, package in REQUIRED.items()]
    yield from packages
    gpus = importlib.import_module("torch").cuda.device_count() if packages[0].status == OK else 0
    yield _package("triton", "triton", FAIL if gpus else NOTE, TRITON_REMEDY)
    yield _attempt("CPU", _cpu, FAIL)
    for index in range(gpus):
        yield _attempt(f"GPU {index}", lambda index=index: _gpu(index), FAIL)  # type: ignore[misc]
    if not gpus:
        yield _no_gpu()
    yield _attempt("kernels on CPU", lambda: _kernel("cpu"), FAIL)
    if gpus:
        yield _attempt("kernels on GPU", lambda: _kernel("cuda"), FAIL)
    yield _attempt(f"code for AMD's {CROSS_TARGET}", _cross_compile, NOTE)
    yield _attempt("default model", _default_model, NOTE)


def _attempt(name: str, look: Callable[[], str], otherwise: str) -> Finding:
    """What `look` says; where it raises, a finding of status `otherwise` with the error's words."""
    try:
        return Finding(name, OK, look())
    except ForgeError as error:
        return Finding(name, otherwise, error.what, error.remedy)
    except Exception as error:  # a broken installation can raise anything: that is what the doctor is for
        return Finding(name, otherwise, f"{type(error).__name__}: {error}")


def _python() -> Finding:
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", FAIL, detail, f"Python {'.'.join(map(str, OLDEST_PYTHON))} or later")
    return Finding("python", OK, detail)


def _package(module: str, package: str, otherwise: str, remedy: str) -> Finding:
    def look() -> str:
        found = importlib.import_module(module)
        version = getattr(found, "__version__", None) or metadata.version(package)
        return f"{version}{_torch_build(found) if module == 'torch' else ''}"

    finding = _attempt(package, look, otherwise)
    if finding.status == OK:
        return finding
    return Finding(finding.name, finding.status, finding.detail, finding.remedy or remedy)


def _torch_build(torch: Any) -> str:
    if torch.version.hip:
        return f" (ROCm {torch.version.hip})"
    return f" (CUDA {torch.version.cuda})" if torch.version.cuda else " (CPU build)"


def _cpu() -> str:
    import torch

    return f"{torch.backends.cpu.get_cpu_capability()} with {torch.get_num_threads()} threads"


def _gpu(index: int) -> str:
    import torch

    from forge.lower.gpu import GPU

    free, total = torch.cuda.mem_get_info(index)
    name = torch.cuda.get_device_name(index)
    return f"{name} ({GPU(index).target}), {free / 1e9:.1f} of {total / 1e9:.1f} GB free"


def _no_gpu() -> Finding:
    """Why torch sees no GPU, as far as the drivers' files tell."""
    for driver, maker, build in (("/dev/kfd", "AMD", "ROCm"), ("/dev/nvidiactl", "NVIDIA", "CUDA")):
        if Path(driver).exists():
            return Finding(
                "GPU", NOTE, f"{driver} is there, but torch sees no {maker} GPU", f"install torch for {build}"
            )
    return Finding("GPU", OK, "none; models run on the CPU")


def _kernel(device: str) -> str:
    """Run one op on the device and compare it with its oracle."""
    import torch

    from forge.kernels import load
    from forge.lower.devices import of_torch

    swiglu = load()["swiglu"]
    generator = torch.Generator().manual_seed(1)
    gate, up = (torch.randn(3, 640, generator=generator) for _ in range(2))
    got = swiglu(gate.to(device), up.to(device)).cpu()
    error = (got - swiglu.reference(gate, up)).abs().max().item()
    if not error < 1e-5:
        raise NumericsError(f"swiglu differs from its oracle by {error:.1e}", remedy="report this machine's versions")
    return f"swiglu agrees with its oracle on {of_torch(torch.device(device)).target}"


def _cross_compile() -> str:
    """Compile one kernel for an AMD GPU that need not be here."""
    from forge.graph.types import tensor
    from forge.kernels import load
    from forge.lower.launch import Launch
    from forge.lower.offline import compile_launch
    from forge.lower.select import call_of, select
    from forge.lower.values import empty
    from forge.target import TARGETS
    from forge.tune.store import TuningStore

    target, type = TARGETS[CROSS_TARGET], tensor("f16", 3, 640)
    call = call_of(load()["swiglu"], (type, type), {}, target)
    operand = empty(type, "meta")
    steps = select(call, TuningStore()).build((operand,), (operand, operand), ())
    codes = [compile_launch(step, target) for step in steps if isinstance(step, Launch)]
    return f"{codes[0].name} compiles here: {codes[0].vgprs} VGPRs"


def _default_model() -> str:
    from forge.api import DEFAULT_MODEL
    from forge.gguf import GGUFFile
    from forge.tokenizer import Tokenizer

    with GGUFFile.open(DEFAULT_MODEL) as gguf:
        return f"{gguf.path.name}: {len(gguf.tensors)} tensors, {Tokenizer.from_gguf(gguf).vocab_size:,} tokens"
