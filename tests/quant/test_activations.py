"""Quantized activations: planes, sums, and what becomes of values that are not finite; ids outside a table."""

from __future__ import annotations

import pytest
import torch
from kernels.harness import INTERPRETER

from forge.graph.types import tensor
from forge.kernels.embed import embed
from forge.kernels.quantize_q8 import quantize_q8
from forge.language import interpreted
from forge.lower.eager import run
from forge.quant import dense, pack, random_blocks
from forge.target import TARGETS


def rows(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 96, generator=torch.Generator().manual_seed(seed))


@pytest.mark.cpu
def test_codes_scales_and_sums_are_of_one_another():
    x = rows()
    x[1, 32:64] = 0
    packed = quantize_q8(x)
    codes = packed.planes["q"].view(torch.int8).reshape(4, 3, 32).double()
    groups = x.reshape(4, 3, 32).double()
    assert torch.allclose(packed.planes["d"].double() * 127, groups.abs().amax(-1), rtol=1e-6)
    assert torch.allclose(packed.planes["sum"].double(), packed.planes["d"].double() * codes.sum(-1), rtol=1e-6)
    assert (codes.abs().amax(-1) == torch.where(groups.abs().amax(-1) > 0, 127, 0)).all()
    assert (dense(packed).reshape(4, 3, 32) - groups).abs().amax() <= packed.planes["d"].max() / 2 * 1.0001


@pytest.mark.cpu
def test_two_codes_round_256_times_finer():
    x = rows()
    x[1, 32:64] = 0
    packed = quantize_q8(x, residual=True)
    q, r = (packed.planes[name].view(torch.int8).reshape(4, 3, 32).double() for name in "qh")
    d = packed.planes["d"].double()
    assert torch.equal(packed.planes["d"], quantize_q8(x).planes["d"])
    assert torch.allclose(packed.planes["sum"].double(), d * (q + r / 256).sum(-1), rtol=1e-6)
    assert (d[..., None] * (q + r / 256) - x.reshape(4, 3, 32)).abs().amax() <= d.max() / 512 * 1.001
    assert torch.equal(dense(packed), (packed.planes["d"][..., None] * (q + r / 256).float()).reshape(4, 96))


@pytest.mark.cpu
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_poisons_its_group_and_no_other(value):
    x = rows()
    x[2, 40] = value
    poisoned = dense(quantize_q8(x)).reshape(4, 3, 32).isnan()
    assert poisoned[2, 1].all() and poisoned.sum() == 32


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("residual", [False, True])
def test_the_kernel_makes_the_same_planes(residual):
    x = rows()
    x[1, 32:64] = 0
    planes, expected = (
        out.planes for out in (run(quantize_q8, (x,), {"residual": residual}, t) for t in (INTERPRETER, TARGETS["cpu"]))
    )
    assert planes.keys() == expected.keys() and ("h" in planes) == residual
    assert all(torch.equal(planes[name], expected[name]) for name in planes if name != "sum")
    assert torch.allclose(planes["sum"], expected["sum"], rtol=1e-6, atol=1e-6)


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_kernel_poisons_the_same_group(value):
    x = rows()
    x[2, 40] = value
    poisoned = dense(run(quantize_q8, (x,), {"residual": False}, INTERPRETER)).reshape(4, 3, 32).isnan()
    assert poisoned[2, 1].all() and poisoned.sum() == 32


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("name", ["f16", "q4_0"])
def test_ids_outside_the_table_give_rows_of_nan(name):
    kind = tensor(name, 5, 64)
    raw = random_blocks(kind, torch.Generator().manual_seed(0))
    table = pack(kind, raw) if kind.dtype.quantized else raw.view(torch.float16)
    ids = torch.tensor([4, 5, -1, 0], dtype=torch.int32)
    y = run(embed, (ids, table, None), {"out": "f32"}, INTERPRETER)
    assert y.isnan().all(-1).tolist() == [False, True, True, False]
    assert torch.equal(y[[0, 3]], dense(table)[[4, 0]])
