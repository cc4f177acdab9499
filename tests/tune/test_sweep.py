"""Measuring configurations: a wrong one is rejected, operands rotate, and the quickest right one is found."""

from __future__ import annotations

import pytest
import torch
from kernels.harness import INTERPRETER

from forge.bench.sweep import around, best, sweep
from forge.errors import DeviceError
from forge.graph.op import Case, Cost, Space, op
from forge.graph.types import tensor
from forge.kernels import load
from forge.language import interpreted
from forge.lower.device import CPU
from forge.lower.devices import find
from forge.lower.select import call_of
from forge.target import TARGETS

TYPE = tensor("f32", 8, 64)


@op(
    types=lambda x: x,
    reference=lambda x: 2 * x,
    cost=lambda x: Cost(bytes=2 * x.nbytes, flops=x.numel),
    axes={"x": "TD"},
)
def double(x):
    """y[T,D] = 2 x[T,D]"""


@double.kernel(on="cpu", space=Space(MODE=("slow", "quick", "wrong", "beside", "refused"), LANES=(1, 2)))
def double_torch(site, y, x):
    if site["MODE"] == "refused":
        raise DeviceError("it does not fit")
    times = 200 if site["MODE"] == "slow" else 1

    def run():
        for _ in range(times):
            torch.add(x, x, out=y)
        if site["MODE"] == "wrong":
            y[3, 5] *= 1.01
        if site["MODE"] == "beside":
            y.as_strided((1,), (1,), y.storage_offset() + y.numel()).fill_(0)

    return run


KERNEL = double.kernels["double_torch"]


def rows(configs=None, case=None, **options):
    options = {"rotated": 0, "repetitions": 3} | options
    return list(sweep(KERNEL, case or Case("case", (TYPE,)), find("cpu"), configs, **options))


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
def test_a_kernel_of_triton_s_is_measured_as_any_other():
    kernel, types = load()["linear"].kernels["linear_gemv"], (tensor("a16", 2, 256), tensor("q4_K", 8, 256), None)
    configs = [kernel.space.default, kernel.space.default | {"ROWS": 1}]
    found = list(
        sweep(kernel, Case("case", types, {"out": "f32"}), CPU(INTERPRETER), configs, rotated=0, repetitions=1)
    )
    assert [r.config for r in found] == configs and all(r.sample and 0 < r.error < 2e-5 for r in found)


@pytest.mark.cpu
def test_every_point_is_a_row_and_the_quickest_right_one_is_the_best():
    found = rows()
    assert [r.config for r in found] == list(KERNEL.space)
    right = [r for r in found if r.config["MODE"] in ("slow", "quick")]
    assert all(r.sample and r.seconds > 0 and r.rate.roofline > 0 and len(r.sample.seconds) == 3 for r in right)
    assert best(found).config["MODE"] == "quick" and best(found).error < 1e-6
    assert [r.origin for r in found] == ["default", *[""] * 9], "which one the store gives is said"


@pytest.mark.cpu
def test_a_wrong_result_rejects_a_configuration_and_is_reported():
    wrong, beside, refused = rows([{"MODE": m, "LANES": 1} for m in ("wrong", "beside", "refused")])
    assert wrong.failure.startswith("wrong: result 0: relative error")
    assert "writes outside its results" in beside.failure
    assert refused.failure == "DeviceError: it does not fit"
    for row in (wrong, beside, refused):
        assert row.sample is None and row.json()["failure"] == row.failure and row.failure in str(row)
    assert best([wrong, beside, refused]) is None


@pytest.mark.cpu
def test_operands_rotate_through_more_than_a_cache_holds():
    made = []

    def make(generator):
        made.append(torch.randn(8, 64, generator=generator))
        return [made[-1]]

    case, slow = Case("made", (TYPE,), make=make), [{"MODE": "slow", "LANES": 1}]
    [row] = rows(slow, case, rotated=100 * 2 * TYPE.nbytes)
    assert len(made) == 100 and not torch.equal(made[0], made[99])
    [alone] = rows(slow, case)
    assert row.seconds < 10 * alone.seconds, "of one call, not of a hundred"


@pytest.mark.cpu
def test_the_neighbours_differ_in_one_choice():
    call = call_of(double, (TYPE,), {}, TARGETS["cpu"])
    start = {"MODE": "quick", "LANES": 2}
    found = list(around(KERNEL, call, start))
    assert found[0] == start and len(found) == 1 + 4 + 1
    assert all(sum(point[n] != start[n] for n in start) == 1 for point in found[1:])


@pytest.mark.cpu
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
@pytest.mark.parametrize("name", [n for n, o in load().items() if not o.view and any(c.small for c in o.cases)])
def test_every_op_s_costliest_case_can_be_measured(name):
    o = load()[name]
    case = max((c for c in o.cases if c.small), key=lambda c: o.cost(*c.types, **o.bind(c.types, c.attrs)[1]).bytes)
    call = call_of(o, case.types, o.bind(case.types, case.attrs)[1], TARGETS["cpu"])
    for kernel in o.kernels.values():
        if kernel.serves(call):
            [row] = sweep(kernel, case, find("cpu"), rotated=0, repetitions=1)
            assert row.sample, row.failure
