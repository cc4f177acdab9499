"""Devices by name: what there is, what there is not and what is said of it, and that each launch goes to its own."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from forge.compiled import CompiledGraph
from forge.errors import DeviceError, UnsupportedError
from forge.graph.ir import Graph
from forge.graph.types import tensor
from forge.kernels import load
from forge.language import interpreted
from forge.lower import gpu
from forge.lower.device import CPU, SHARE
from forge.lower.devices import Absent, find, of_torch
from forge.lower.gpu import GPU
from forge.lower.launch import Launch
from forge.lower.rates import spare_memory
from forge.target import TARGETS

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with an H100 and a small RTX, as torch would tell of them; gives the devices made current in turn."""
    tell = [
        dict(major=9, minor=0, multi_processor_count=114, memory_clock_rate=2_619_000, memory_bus_width=5120),
        dict(major=8, minor=6, multi_processor_count=28, memory_clock_rate=0, memory_bus_width=0),
    ]
    current = []

    @contextmanager
    def device(index):
        current.append(index)
        yield

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(**tell[index]))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (100 * (index + 1), 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda index: 0)
    monkeypatch.setattr(torch.cuda, "device", device)
    return current


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_machine_without_a_gpu(no_gpu):
    assert find("auto").name == find("cpu").name == "cpu"
    assert isinstance(find("gfx942"), Absent) and isinstance(find(TARGETS["sm_90"]), Absent)
    with pytest.raises(DeviceError, match="there is no GPU 0 here; there is cpu"):
        find("gpu")


def test_each_gpu_is_a_device_of_its_own(two_gpus):
    first, second = find("gpu"), find("gpu:1")
    assert (first.name, first.target.arch, first.target.compute_units) == ("gpu:0", "sm_90", 114)
    assert (second.name, second.target.arch, second.torch_device) == ("gpu:1", "sm_86", torch.device("cuda", 1))
    assert find("auto").name == "gpu:0" and find("sm_86").name == "gpu:1", "an arch id is the GPU that has it"
    assert isinstance(find("gfx942"), Absent)
    assert first.free_memory() < second.free_memory()
    assert of_torch(torch.device("cuda", 1)).name == "gpu:1"
    with pytest.raises(DeviceError, match=r"no GPU 2 here; there is gpu:0 \(sm_90\), gpu:1 \(sm_86\), cpu"):
        find("gpu:2")


def test_a_roofline_is_of_the_part_at_hand(two_gpus, monkeypatch):
    """An H100 is not judged by the bandwidth of an H200, nor any by the arithmetic of a data sheet."""
    first = find("gpu")
    assert first.gbps == pytest.approx(3352, rel=1e-3) and TARGETS["sm_90"].gbps == 4800
    products, copies = [], []
    monkeypatch.setattr(gpu, "product_tflops", lambda *what: products.append(what) or 500.0)
    monkeypatch.setattr(gpu, "copied_gbps", lambda device: copies.append(device) or 900.0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: copies.append("given back"))
    second = find("gpu:1")
    assert [second.gbps, second.gbps] == [900.0, 900.0] and copies == [torch.device("cuda", 1), "given back"], "once"
    assert [first.tflops, first.tflops] == [500.0, 500.0] and products == [(torch.device("cuda", 0), "f16")], "once"
    assert CPU().gbps > 0.1 and CPU().tflops > 1e-4


def test_what_torch_s_allocator_keeps_of_tensors_that_are_gone_is_free(two_gpus, monkeypatch):
    before = find("gpu").free_memory()
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda index: 200)
    assert find("gpu").free_memory() == before + SHARE * 500


@pytest.mark.parametrize(
    ("groups", "files", "spare"),
    [
        ("0::/\n", {}, 8000 * 1024),
        ("0::/\n", {"memory.max": "max", "memory.current": "5"}, 8000 * 1024),
        ("0::/\n", {"memory.max": "900", "memory.current": "500", "memory.stat": "anon 1\ninactive_file 30"}, 430),
        ("0::/a/b\n", {"a/memory.max": "900", "a/memory.current": "950", "a/b/memory.max": "max"}, 0),
        (
            "4:cpu:/\n3:cpuset,memory:/a\n",
            {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "8"}
            | {"memory/a/memory.limit_in_bytes": "700", "memory/a/memory.usage_in_bytes": "100"},
            600,
        ),
    ],
)
def test_a_container_has_the_memory_that_its_control_groups_leave(tmp_path, groups, files, spare):
    at = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n", "proc/self/cgroup": groups}
    for name, text in (at | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert spare_memory(tmp_path) == spare


def test_a_launch_is_compiled_for_its_own_gpu_and_runs_there(two_gpus, monkeypatch):
    made = []
    monkeypatch.setattr(gpu, "launcher", lambda *args: made.append((two_gpus[-1], args[-1])) or (lambda: None))
    launch = Launch(SimpleNamespace(__name__="kernel", arg_names=[]), (1, 1, 1), (), {})
    for index in (1, 0):
        GPU(index).prepare(launch)
    assert made == [(1, 1), (0, 0)], "the device that was current, and the one that the launch was told"


def test_a_step_makes_its_device_the_current_one(two_gpus, monkeypatch):
    """The executable of a GPU, on the CPU's memory: its tasks run while that GPU is active."""

    class Second(GPU):
        torch_device = torch.device("cpu")

        def prepare(self, task):
            return lambda: (seen.append(list(two_gpus)), task())

    seen = []
    graph = Graph("sum")
    x = graph.input("x", tensor("f32", 1, 4))
    graph.output("y", load()["add"](x, x))
    made = CompiledGraph(graph, Second(1, TARGETS["cpu"]))
    made.load()
    two_gpus.clear()
    assert made.run({"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[2.0] * 4]
    assert seen == [[1]]


def test_what_is_absent_can_be_looked_at_and_does_not_run(no_gpu):
    absent = find("gfx942")
    assert absent.gbps == 5300 and absent.free_memory() > 1 << 30 and str(absent) == "gfx942 (absent)"
    for attempt in (lambda: absent.torch_device, absent.active, lambda: absent.prepare(print), absent.synchronize):
        with pytest.raises(DeviceError, match="there is no gfx942 here; there is cpu"):
            attempt()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gfx906", "no target is called 'gfx906'.*one of: auto, cpu, gpu, gpu:N, emulated:ARCH, gfx90a"),
        ("gpu:", "no target is called 'gpu:'"),
        ("gpu:\u0663", "no target is called 'gpu:"),
        ("gpu:first", "no target is called 'gpu:first'"),
        ("emulated:", "no target is called ''"),
        ("emulated:sm_90", "there is no emulator of sm_90"),
    ],
)
def test_a_name_of_nothing_says_what_there_is(name, says):
    with pytest.raises(UnsupportedError, match=f"(?s){says}"):
        find(name)


def test_a_kernel_of_gpus_does_not_run_on_a_cpu():
    with pytest.raises(DeviceError, match="kernel is a kernel for GPUs"):
        CPU().prepare(Launch(SimpleNamespace(__name__="kernel"), (1, 1, 1), (), {}))
    with pytest.raises(DeviceError, match="cannot be captured"):
        CPU().capture([print])


def test_an_emulated_device_is_the_cpu_with_another_target():
    device = find("emulated:gfx1100")
    assert (device.name, device.target.arch, device.torch_device.type) == ("emulated:gfx1100", "gfx1100", "cpu")
    with pytest.raises(DeviceError, match="cannot be captured"):
        device.capture([print])
