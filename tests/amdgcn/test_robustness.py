"""What is odd, hostile or at once works as on the device or ends in an error of ours, and leaves nothing behind."""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import threading
import tomllib
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from amdgcn.assembled import execute, waves
from amdgcn.patched import subject

from forge.amdgcn import emulate as emulator
from forge.amdgcn.bridge import emulate, run
from forge.amdgcn.code import tables
from forge.amdgcn.state.waves import VECTOR
from forge.amdgcn.trap import OUT_OF_BOUNDS
from forge.api import compile_graph
from forge.errors import EmulationError, MissingDependencyError, UnsupportedError, UsageError
from forge.graph.ir import Graph
from forge.graph.types import tensor
from forge.kernels import load as load_ops
from forge.language import interpreted
from forge.lower.launch import Launch
from forge.lower.offline import compile_launch
from forge.target import TARGETS
from forge.triton_internals import absent_driver

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

GFX1100 = TARGETS["gfx1100"]


@triton.jit
def _copy(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n), mask=at < n)


@triton.jit
def _optional(x_ptr, y_ptr, HAS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at) if HAS else at.to(tl.float32))


@triton.jit
def _put(y_ptr, value):
    tl.store(y_ptr, value.to(y_ptr.dtype.element_ty))


@triton.jit
def _put_f16(y_ptr, value: tl.float16):
    tl.store(y_ptr, value.to(y_ptr.dtype.element_ty))


@triton.jit
def _put_bf16(y_ptr, value: tl.bfloat16):
    tl.store(y_ptr, value.to(y_ptr.dtype.element_ty))


@triton.jit
def _number(y_ptr):
    at = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    tl.store(y_ptr + at, at)


def launch(fn, *args, grid=(1, 1, 1), **constexprs):
    return Launch(fn, grid, args, {"num_warps": 1, "enable_fp_fusion": True, **constexprs})


def copied(x, y, n=None):
    n = x.numel() if n is None else n
    return emulate(launch(_copy, x, y, n, grid=(-(-max(n, 1) // 64), 1, 1), BLOCK=64), GFX1100)


# At once, and one after another


def test_threads_that_emulate_at_once_mix_neither_results_nor_counts():
    wrong = []

    def work(number):
        for turn in range(4):
            n, arch = 64 * (1 + (number + turn) % 5), ("gfx942", "gfx1100")[turn % 2]
            x, y = torch.arange(float(n)) + number, torch.zeros(n)
            done = emulate(launch(_copy, x, y, n, grid=(n // 64, 1, 1), BLOCK=64), TARGETS[arch], count=True)
            counts = {s.executed for s in done.steps.values() if s.executed}
            if not torch.equal(x, y) or counts != {n // 64} or done.counters.memory.stored.total() != 4 * n:
                wrong.append((number, n, arch, counts))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong


def test_the_steps_of_a_launch_are_its_own():
    x, y = torch.zeros(192), torch.zeros(192)
    first = copied(x, y, 64)
    told = [s.executed for s in first.steps.values()]
    second = copied(x, y, 192)
    assert [s.executed for s in first.steps.values()] == told
    assert second.instructions == 3 * first.instructions


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "gfx1201"])
def test_the_same_launch_gives_the_same_bits_whatever_ran_before(arch):
    softmax = subject(arch, "softmax.softmax_rows", "f32")
    seen = []
    for _ in range(3):
        softmax.verdict()
        seen.append([out.clone() for out in softmax.outputs])
        copied(torch.randn(100), torch.zeros(100))
    assert all(torch.equal(a, b) for one, other in pairwise(seen) for a, b in zip(one, other, strict=True))


def test_the_driver_of_triton_comes_back_whatever_ends_the_compiling():
    from triton.runtime import driver

    before = driver._active
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), absent_driver("hip", "gfx1100", 32):
            assert driver._active is not before
            raise error
        assert driver._active is before


def test_threads_that_compile_for_several_targets_wait_for_each_other():
    from triton.runtime import driver

    inside, seen = threading.Event(), []

    def other():
        inside.wait()
        with absent_driver("hip", "gfx942", 64):
            seen.append(driver.active.get_current_target().arch)

    thread = threading.Thread(target=other)
    with absent_driver("hip", "gfx1100", 32):
        thread.start()
        inside.set()
        thread.join(0.05)
        seen.append(driver.active.get_current_target().arch)
    thread.join()
    assert seen == ["gfx1100", "gfx942"]


def test_launches_leave_no_memory_behind():
    x, y = torch.randn(1024), torch.zeros(1024)
    for _ in range(20):
        copied(x, y)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(200):
        copied(x, y)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB


def test_a_grid_as_large_as_the_second_axis_allows():
    y = torch.zeros(4 * 65535, dtype=torch.int32)
    done = emulate(launch(_number, y, grid=(4, 65535, 1)), GFX1100)
    assert torch.equal(y, torch.arange(4 * 65535, dtype=torch.int32))
    assert done.seconds < 20


# Tensors


def test_an_argument_left_out_that_the_kernel_does_not_touch():
    y = torch.zeros(64)
    emulate(launch(_optional, None, y, HAS=False, BLOCK=64), GFX1100)
    assert torch.equal(y, torch.arange(64.0))


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100"])
def test_a_null_pointer_that_is_used_traps(arch):
    fine = launch(_optional, torch.ones(64), torch.zeros(64), HAS=True, BLOCK=64)
    code = compile_launch(fine, TARGETS[arch])
    with pytest.raises(EmulationError, match="at 0x0: a null pointer") as caught:
        run(code, replace(fine, args=(None, torch.zeros(64))))
    assert caught.value.kind == OUT_OF_BOUNDS and "test_robustness.py:" in str(caught.value)


def test_a_tensor_of_no_elements_is_passed_and_must_not_be_used():
    copied(torch.empty(0), torch.empty(0))
    with pytest.raises(EmulationError, match="access out of bounds"):
        copied(torch.empty(0), torch.zeros(64), 1)


def kinds():
    x = torch.arange(128.0)
    return {
        "0-dim": torch.tensor(3.0),
        "bool": x % 3 == 0,
        "float8": x.to(torch.float8_e4m3fn),
        "bf16": x.bfloat16(),
        "f64": x.double(),
        "with a gradient": x.clone().requires_grad_(),
        "computed with a gradient": x.clone().requires_grad_() * 2,
        "at an odd offset": torch.arange(129.0)[1:],
    }


@pytest.mark.parametrize("name", kinds())
def test_a_kernel_sees_the_bytes_of_any_tensor(name):
    x = kinds()[name]
    y = torch.zeros(x.shape, dtype=x.dtype, requires_grad=x.requires_grad)
    copied(x, y)
    assert torch.equal(y.detach().view(-1).view(torch.uint8), x.detach().view(-1).view(torch.uint8))


def test_a_kernel_knows_nothing_of_a_lazy_sign():
    """A device is given the address."""
    x, y = torch.complex(torch.ones(1), torch.ones(1)).conj().imag, torch.zeros(1)
    copied(x, y)
    assert x.is_neg() and x.item() == -1 and y.item() == 1


def test_views_of_one_storage_are_one_memory():
    both = torch.arange(128.0)
    copied(both[64:], both[:64])
    assert torch.equal(both, torch.arange(64.0, 128).repeat(2))


def test_a_strided_view_ends_at_its_last_element():
    x = torch.arange(256.0).view(4, 64)[:, ::2]
    copied(x, torch.zeros(256), 255)
    with pytest.raises(EmulationError, match=r"0 bytes after x_ptr|across the end of x_ptr"):
        copied(x, torch.zeros(256), 256)


@pytest.mark.parametrize("x", [torch.empty(64, device="meta"), np.zeros(64, np.float32)], ids=["meta", "numpy"])
def test_memory_that_is_no_tensor_of_the_cpu_is_refused(x):
    fine = launch(_copy, torch.zeros(64), torch.zeros(64), 64, BLOCK=64)
    with pytest.raises(UnsupportedError, match="x_ptr is no tensor of the CPU"):
        run(compile_launch(fine, GFX1100), replace(fine, args=(x, *fine.args[1:])))


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_a_store_to_a_file_mapped_to_be_read_traps(tmp_path):
    """torch does not know of it; the process would end."""
    path = tmp_path / "weights"
    np.arange(4096, dtype=np.float32).tofile(path)
    mapped = torch.from_numpy(np.memmap(path, np.float32, "r"))
    y = torch.zeros(4096)
    copied(mapped, y)
    assert torch.equal(y, torch.arange(4096.0))
    with pytest.raises(EmulationError, match="store to y_ptr, which is only to be read"):
        copied(y, mapped)
    copied(-y, torch.from_numpy(np.memmap(path, np.float32, "r+")))
    assert torch.equal(mapped, -y)


# Numbers


@pytest.mark.parametrize("value", [
    0, -1, 2, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**32, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, True, False,
])  # fmt: skip
def test_integers_to_the_edge_of_their_types(value):
    y = torch.zeros(1, dtype=torch.int64)
    emulate(launch(_put, y, value), GFX1100)
    assert y.item() == (value + 2**63) % 2**64 - 2**63


@pytest.mark.parametrize("value", [0.1, -0.0, math.inf, -math.inf, math.nan, 1e-45, 1e-320, 1e39, -1e300])
def test_floats_are_rounded_to_f32_or_infinite(value):
    y = torch.zeros(1)
    emulate(launch(_put, y, value), GFX1100)
    expected = torch.tensor([value], dtype=torch.float64).float()
    assert torch.equal(y.isnan(), expected.isnan()) and (y.isnan().all() or torch.equal(y, expected))
    assert torch.equal(y.signbit(), expected.signbit()) or y.isnan().all()


def test_half_precision_numbers_are_passed_as_by_the_launcher_of_triton():
    """It rounds f16 and refuses what is beyond it, and cuts bf16 off."""
    y = torch.zeros(1)
    for fn, value, expected in ((_put_f16, 0.1, 0.0999755859375), (_put_bf16, 1.99999, 1.9921875)):
        emulate(launch(fn, y, value), GFX1100)
        assert y.item() == expected
    with pytest.raises(UnsupportedError, match=r"argument value of type fp16 cannot be 65520\.0"):
        emulate(launch(_put_f16, y, 65520.0), GFX1100)


def test_a_number_that_the_compiled_code_does_not_take_is_refused():
    fine = launch(_copy, torch.zeros(64), torch.zeros(64), 64, BLOCK=64)
    code = compile_launch(fine, GFX1100)
    for value in (2**31, 0.5, "64", None):
        with pytest.raises(UnsupportedError, match="argument n of type i32 cannot be"):
            run(code, replace(fine, args=(*fine.args[:2], value)))


# What is not there


@pytest.mark.parametrize("arch", ["sm_90", "gfx1101", "cpu"])
def test_targets_without_an_emulator_are_refused_before_anything_is_done(arch):
    with pytest.raises(UnsupportedError, match=f"no emulator of {arch}"):
        emulate(launch(_copy, None, None, 0, BLOCK=64), TARGETS[arch])
    with pytest.raises((UnsupportedError, UsageError), match=arch):
        compile_graph(softmax_graph(), target=f"emulated:{arch}")


def test_tinygrad_of_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(tables, "VERSION", "0.13.0")
    tables.tables.cache_clear()
    with pytest.raises(MissingDependencyError, match=f"needs tinygrad 0.13.0; {version('tinygrad')} is installed"):
        copied(torch.zeros(1), torch.zeros(1))
    tables.tables.cache_clear()


def test_the_extra_installs_the_version_that_the_decoder_wants():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert f"tinygrad=={tables.VERSION}" in project["optional-dependencies"]["emulate"]


@pytest.mark.parametrize("command", [
    "verify --emulate gfx1100 --op softmax", "bench --emulate gfx1100 --op softmax",
    "run --target emulated:gfx1100 -p hi",
])  # fmt: skip
def test_commands_without_tinygrad_say_how_to_install_it(command):
    block = "import sys; sys.modules['tinygrad'] = None; from forge.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", block, *command.split()], capture_output=True, text=True, check=False)
    assert done.returncode == MissingDependencyError.exit_code
    assert "pip install 'forge-triton[emulate]'" in done.stderr and "Traceback" not in done.stderr
    assert "WRONG" not in done.stdout


def softmax_graph() -> Graph:
    graph = Graph("softmax")
    x = graph.input("x", tensor("f32", 4, 64))
    graph.output("y", graph.call(load_ops()["softmax"], x))
    return graph


def test_a_graph_is_emulated_when_it_is_asked_for(monkeypatch):
    runs, run = [], emulator.run
    monkeypatch.setattr(emulator, "run", lambda *args, **options: runs.append(run(*args, **options)))
    x = torch.randn(4, 64)
    executable = compile_graph(softmax_graph(), target="emulated:gfx1100").load()
    y = executable.run({"x": x.numpy()})["y"]
    assert len(runs) == 1 and runs[0].instructions and y.device.type == "cpu"
    torch.testing.assert_close(y, x.softmax(-1))


# Registers and sizes


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "gfx1201"])
def test_a_wave_without_an_active_lane_reads_no_vector_register(arch):
    """As compilers leave it: the value of a branch that this wave jumped over, used under the same mask."""
    state = waves(arch, 1, exec=0)
    state.defined &= ~(1 << VECTOR + 5)
    execute(arch, "v_mov_b32 v6, v5", state)
    state = waves(arch, 1, exec=1)
    state.defined &= ~(1 << VECTOR + 5)
    with pytest.raises(EmulationError, match="registers v5 hold nothing yet"):
        execute(arch, "v_mov_b32 v6, v5", state)
    state = waves(arch, 1, exec=0)
    state.defined &= ~(1 << 5)
    with pytest.raises(EmulationError, match="registers s5 hold nothing yet"):
        execute(arch, "s_mov_b32 s6, s5", state)


@pytest.mark.parametrize(("sizes", "what"), [
    ({"lds": 1 << 40}, "bytes of LDS"), ({"scratch": 0xFFFFFFFF}, "bytes of scratch a wave"),
    ({"agprs": 1 << 40}, "vector registers"), ({"kernarg_size": 1 << 40}, "bytes of arguments"),
])  # fmt: skip
def test_sizes_beyond_every_device_are_refused_and_not_allocated(sizes, what, monkeypatch):
    load = emulator.load

    def corrupted(*args):
        code, *rest = load(*args)
        return replace(code, **sizes), *rest

    monkeypatch.setattr(emulator, "load", corrupted)
    with pytest.raises((EmulationError, UnsupportedError), match=what):
        copied(torch.zeros(64), torch.zeros(64))


def test_more_threads_than_a_workgroup_may_have_are_refused():
    with pytest.raises(EmulationError, match="2048 threads in a workgroup; gfx1100 has 1024"):
        emulate(launch(_number, torch.zeros(1, dtype=torch.int32), num_warps=64), GFX1100)
