"""What other people's kernels hold that ours don't (Faults 19): each construct on every architecture that has it.

The kind: an instruction that Triton emits for a construct of its language, whatever encoding the compiler chooses for
it, runs as the documents say, and a register that holds nothing where nothing depends on it is no fault.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from forge.amdgcn.bridge import emulate
from forge.amdgcn.emulate import Checks
from forge.errors import EmulationError
from forge.language import interpreted
from forge.lower.launch import Launch
from forge.target import TARGETS

pytestmark = [pytest.mark.emulate, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

ALL = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1151", "gfx1201")


@pytest.fixture(params=ALL)
def arch(request):
    return request.param


def run(arch, fn, *args, grid=1, num_warps=4, reachable=(), **constexprs):
    launch = Launch(fn, (grid, 1, 1), args, {"num_warps": num_warps, "enable_fp_fusion": True} | constexprs)
    return emulate(launch, TARGETS[arch], Checks(waits=True, races=True), reachable=reachable)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@triton.jit
def _dot(a_ptr, b_ptr, c_ptr, SIDE: tl.constexpr, PRECISION: tl.constexpr):
    at = tl.arange(0, SIDE)[:, None] * SIDE + tl.arange(0, SIDE)[None, :]
    tl.store(c_ptr + at, tl.dot(tl.load(a_ptr + at), tl.load(b_ptr + at), input_precision=PRECISION))


@pytest.mark.parametrize("side", [16, 32, 64])
def test_a_product_in_xf32(side):
    """gfx942's default of an f32 product: 10 bits of fraction."""
    a, b, c = normal(side, side), normal(side, side, seed=1), torch.empty(side, side)
    done = run("gfx942", _dot, a, b, c, SIDE=side, PRECISION="tf32")
    assert "_xf32" in done.object.assembly
    bound = 2.0**-10 * (a.abs() @ b.abs()) + 1e-5
    exact = a.double() @ b.double()
    assert ((c - exact).abs() <= bound).all()
    assert (c - exact).abs().max() > 1e-5  # fp32's products would be nearer


@triton.jit
def _argmax(x_ptr, y_ptr, M: tl.constexpr, N: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])
    tl.store(y_ptr + tl.arange(0, M), tl.argmax(x, 1))


@pytest.mark.parametrize("columns", [4, 16])
def test_comparisons_that_take_another_lanes_value(arch, columns):
    """RDNA compares across lanes in one instruction, VOP3 with DPP."""
    x, y = normal(16, columns), torch.empty(16, dtype=torch.int32)
    run(arch, _argmax, x, y, num_warps=1, M=16, N=columns)
    assert torch.equal(y.long(), x.argmax(1))


@triton.jit
def _narrow(x_ptr, y_ptr, z_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    y = tl.load(x_ptr + at).to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + at, y)
    tl.store(z_ptr + at, y.to(tl.float32))


F8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)


@pytest.mark.parametrize("narrow", F8, ids=str)
@pytest.mark.parametrize("wide", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_conversions_to_fp8_and_back(arch, narrow, wide):
    """To nearest even; what is beyond the largest number becomes it, since Triton sets MODE.FP16_OVFL."""
    most = torch.finfo(narrow).max
    special = [most, most * 1.02, -most, most * 0.99, 1e-3, 0, -0.0, 2.0**-9, 2.0**-10, 1e-6, float("nan"), -most * 0.9]
    x = torch.cat([normal(500) * 30, torch.tensor(special)]).to(wide)
    x = torch.where(x.isinf(), torch.finfo(wide).max, x)
    y, z = torch.empty(512, dtype=narrow), torch.empty(512)
    run(arch, _narrow, x, y, z, num_warps=1, N=512)
    expected = x.float().clamp(-most, most).to(narrow).float()
    assert torch.equal(y.float().nan_to_num(7e4), expected.nan_to_num(7e4))
    assert torch.equal(z.nan_to_num(7e4), expected.nan_to_num(7e4))


@triton.jit
def _bessel(x_ptr, y_ptr, N: tl.constexpr):
    tl.store(y_ptr + tl.arange(0, N), libdevice.j0(tl.load(x_ptr + tl.arange(0, N))))


def test_tables_in_the_code_object(arch):
    x, y = 20 * uniform(256), torch.empty(256)
    run(arch, _bessel, x, y, N=256)
    assert (y - torch.special.bessel_j0(x)).abs().max() < 1e-6


@triton.jit
def _quotient(x_ptr, d_ptr, y_ptr, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y_ptr + at, tl.load(x_ptr + at) // tl.load(d_ptr + at))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_quotients_of_integers(arch, dtype):
    """gfx90a estimates them by sums of rounded products (v_mad, v_madmk), which no later CDNA has."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-(2**31), 2**31 - 1, (256,), generator=generator).to(dtype)
    d = torch.randint(1, 1000, (256,), generator=generator).to(dtype)
    y = torch.empty_like(x)
    run(arch, _quotient, x, d, y, N=256)
    assert torch.equal(y, torch.div(x, d, rounding_mode="trunc"))


@triton.jit
def _sums(
    p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13, p14, p15, p16, p17, p18, p19, p20, p21, p22, p23,
    y_ptr, n, N: tl.constexpr,
):  # fmt: skip
    at = tl.arange(0, N)
    total = tl.zeros([N], tl.float32)
    for i in range(n):
        total += tl.load(p0 + at + i) + tl.load(p1 + at + i) + tl.load(p2 + at + i) + tl.load(p3 + at + i)
        total += tl.load(p4 + at + i) + tl.load(p5 + at + i) + tl.load(p6 + at + i) + tl.load(p7 + at + i)
        total += tl.load(p8 + at + i) + tl.load(p9 + at + i) + tl.load(p10 + at + i) + tl.load(p11 + at + i)
        total += tl.load(p12 + at + i) + tl.load(p13 + at + i) + tl.load(p14 + at + i) + tl.load(p15 + at + i)
        total += tl.load(p16 + at + i) + tl.load(p17 + at + i) + tl.load(p18 + at + i) + tl.load(p19 + at + i)
        total += tl.load(p20 + at + i) + tl.load(p21 + at + i) + tl.load(p22 + at + i) + tl.load(p23 + at + i)
    tl.store(y_ptr + at, total)


def test_more_pointers_than_scalar_registers(arch):
    """Tuples of which half was written go through lanes of vector registers and back."""
    pointers, y = [normal(300, seed=i) for i in range(24)], torch.empty(256)
    run(arch, _sums, *pointers, y, 5, N=256)
    assert torch.allclose(y, sum(p[i : i + 256] for p in pointers for i in range(5)), atol=1e-4)


@triton.jit
def _grouped(pointers_ptr, sizes_ptr, y_ptr, N: tl.constexpr):
    group, at = tl.program_id(0), tl.arange(0, N)
    x_ptr = tl.load(pointers_ptr + group).to(tl.pointer_type(tl.float32))
    tl.store(y_ptr + group, tl.sum(tl.load(x_ptr + at, mask=at < tl.load(sizes_ptr + group), other=0.0)))


def test_addresses_that_lie_in_memory(arch):
    tensors, y = [normal(n, seed=n) for n in (5, 64, 33)], torch.empty(3)
    addresses, sizes = torch.tensor([t.data_ptr() for t in tensors]), torch.tensor([5, 64, 33])
    with pytest.raises(EmulationError, match="out of bounds"):
        run(arch, _grouped, addresses, sizes, y, grid=3, N=64)
    run(arch, _grouped, addresses, sizes, y, grid=3, reachable=tensors, N=64)
    assert torch.allclose(y, torch.stack([t.sum() for t in tensors]), atol=1e-5)


@triton.jit
def _described(x, y, SCALE: tl.constexpr, ROWS: tl.constexpr):
    at = tl.program_id(0) * ROWS
    y.store([at, 0], SCALE * x.load([at, 0]))


def test_tensor_descriptors_of_the_host(arch):
    descriptor = pytest.importorskip("triton.tools.tensor_descriptor").TensorDescriptor
    x, y = normal(60, 32), torch.zeros(60, 32)
    x_described, y_described = (descriptor.from_tensor(t, [16, 32]) for t in (x, y))
    run(arch, _described, x_described, y_described, grid=4, SCALE=2, ROWS=16)
    assert torch.equal(y, 2 * x)


@triton.jit
def _sine(x_ptr, y_ptr, N: tl.constexpr):
    tl.store(y_ptr + tl.arange(0, N), tl.sin(tl.load(x_ptr + tl.arange(0, N))))


@triton.jit
def _print(x_ptr, N: tl.constexpr):
    tl.device_print("x", tl.load(x_ptr + tl.arange(0, N)))


def test_a_print_is_refused_by_its_name(arch):
    with pytest.raises(EmulationError, match="device_print"):
        run(arch, _print, normal(64), N=64)


def test_large_angles_keep_their_sine(arch):
    """v_trig_preop_f64 gives the bits of 2 / pi that an angle of its size needs. Contraction would undo the exact sums
    of the compiler's library."""
    scales = torch.tensor([1.0, 1e8, 1e12, 1e20, 1e200, 1e300], dtype=torch.float64).repeat_interleave(32)
    x = normal(256, dtype=torch.float64)
    x[:192] *= scales
    y = torch.empty_like(x)
    run(arch, _sine, x, y, N=256, enable_fp_fusion=False)
    assert (y - torch.from_numpy(np.sin(x.numpy()))).abs().max() < 1e-14
