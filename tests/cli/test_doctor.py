"""`forge doctor`: it reports what is broken, and works where almost everything is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from forge.cli import doctor
from forge.errors import DeviceError

pytestmark = pytest.mark.cpu

BREAK = """
import sys
class Breaker:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            raise {error}
sys.meta_path.insert(0, Breaker())
from forge.cli import main
sys.exit(main(["doctor", "--json"]))
"""


def _without(package: str, error: str):
    """(exit code, findings by name) of a doctor for whom importing `package` raises `error`."""
    code = BREAK.format(package=package, error=error)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, timeout=60)
    assert done.stdout, done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["works"] == (done.returncode == 0)
    return done.returncode, {f["name"]: f for f in report["findings"]}


def test_models_run_here(forge):
    result = forge("doctor", "--json")
    assert result.code == 0 and result.json["works"]
    assert {f["name"] for f in result.json["findings"]} >= {"python", "torch", "triton", "gguf", "tokenizers", "CPU"}
    assert all(list(f) == ["name", "status", "detail", "remedy"] for f in result.json["findings"])
    assert forge("doctor").out.rstrip().endswith("Models can run here.")


def test_without_triton_models_run_on_the_cpu_and_the_doctor_says_how_to_get_it():
    code, found = _without("triton", "ModuleNotFoundError('No module named triton', name='triton')")
    assert code == 0
    assert found["triton"]["status"] == "note" and "pip install triton" in found["triton"]["remedy"]
    assert found["kernels on CPU"]["status"] == "ok"
    assert found[f"code for AMD's {doctor.CROSS_TARGET}"]["status"] == "note"


def test_a_torch_that_cannot_be_loaded_is_a_finding():
    code, found = _without("torch", "OSError('libtorch.so: cannot open shared object file')")
    assert code == 1
    assert found["torch"]["status"] == "fail" and "libtorch.so" in found["torch"]["detail"]
    assert found["torch"]["remedy"] and found["kernels on CPU"]["status"] == "fail"
    assert found["python"]["status"] == "ok"


def test_a_kernel_that_computes_wrongly_is_a_failure(forge, monkeypatch):
    from forge.kernels import load

    swiglu = load()["swiglu"]
    monkeypatch.setattr(swiglu, "reference", lambda gate, up: gate * up)
    result = forge("doctor", "--json")
    finding = next(f for f in result.json["findings"] if f["name"] == "kernels on CPU")
    assert result.code == 1 and finding["status"] == "fail" and "differs from its oracle" in finding["detail"]


def test_an_error_of_ours_brings_its_remedy(forge, monkeypatch):
    def broken():
        raise DeviceError("the device is lost", remedy="reset it")

    monkeypatch.setattr(doctor, "_cpu", broken)
    text = forge("doctor").out
    assert "the device is lost" in text and "try: reset it" in text and "Models cannot run here" in text
