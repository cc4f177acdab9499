"""Every format against the `gguf` package: sizes, values bit for bit, and planes that give the file's bytes back."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from forge.errors import FileFormatError, UnsupportedError
from forge.graph.types import DTYPES, tensor
from forge.lower.values import type_of
from forge.quant import block_types, dense, dense_as, format_of, formats, pack, random_blocks, to_dense, unpack

pytestmark = pytest.mark.cpu

BLOCK_TYPES = block_types()
TYPES = ("f32", "f16", "bf16", *BLOCK_TYPES)
# fp16 patterns: zeros, the least denormal, a normal, one, the largest, infinities, a NaN
EDGES = (0x0000, 0x8000, 0x0001, 0x8001, 0x1234, 0x3C00, 0xBC00, 0x7BFF, 0x7C00, 0xFC00, 0x7E00)


def oracle(name: str, raw: torch.Tensor) -> torch.Tensor:
    kind = next(k for k in gguf.GGMLQuantizationType if k.name.lower() == name.lower())
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.ascontiguousarray(gguf.quants.dequantize(raw.numpy(), kind)))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bit for bit, signs of zero included; all NaNs are one."""
    a, b = (torch.where(x.isnan(), torch.nan, x).contiguous().view(torch.int32) for x in (a, b))
    return torch.equal(a, b)


def seeded(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(sum(name.encode()))


def random_bytes(name: str, rows: int = 7, blocks: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (rows, blocks * DTYPES[name].nbytes), generator=seeded(name), dtype=torch.uint8)


def edge_blocks(name: str) -> torch.Tensor:
    """One row a combination of edge scales, with random codes; of a type whose block begins with an exponent, each."""
    form = format_of(DTYPES[name])
    if not form.scales_at:
        raw = random_bytes(name, 256, 1)
        raw[:, 0] = torch.arange(256)
        return raw
    rows = [(a, b) for a in EDGES for b in EDGES] if len(form.scales_at) == 2 else [(a,) for a in EDGES]
    raw = random_bytes(name, len(rows), 1)
    for row, scales in zip(raw, rows, strict=True):
        for place, bits in zip(form.scales_at, scales, strict=True):
            row[place : place + 2] = torch.tensor([bits & 255, bits >> 8], dtype=torch.uint8)
    return raw


def test_the_types_are_found_by_walking_the_folder():
    assert set(TYPES) <= set(formats())


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", ["sane", "edges"])
def test_values_are_those_of_gguf_bit_for_bit(name, kind):
    type = tensor(name, 7, 3 * DTYPES[name].block)
    raw = random_blocks(type, seeded(name))
    if kind == "edges" and name in BLOCK_TYPES:
        raw = edge_blocks(name)
        type = tensor(name, raw.shape[0], DTYPES[name].block)
    expected = oracle(name, raw)
    assert same_bits(to_dense(type, raw, torch.float32), expected)
    if name in BLOCK_TYPES:
        assert same_bits(dense(pack(type, raw)), expected)


@pytest.mark.parametrize("name", BLOCK_TYPES)
def test_planes_give_back_any_bytes(name):
    raw = random_bytes(name)
    packed = pack(tensor(name, 7, 3 * DTYPES[name].block), raw)
    assert torch.equal(unpack(packed), raw)
    declared = format_of(DTYPES[name]).plane_types(packed.shape)
    assert {n: type_of(p) for n, p in packed.planes.items()} == declared


@pytest.mark.parametrize("name", BLOCK_TYPES)
def test_planes_are_as_large_as_the_file(name):
    """Within 3%: 6-bit scales and minima of the K types take 16 bytes a block instead of 12."""
    planes = format_of(DTYPES[name]).plane_types((4096, 4096)).values()
    assert 1 <= sum(p.nbytes for p in planes) / tensor(name, 4096, 4096).nbytes < 1.03


@pytest.mark.parametrize("name", BLOCK_TYPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_results_are_the_exact_values_rounded_once(name, dtype):
    type = tensor(name, 5, 2 * DTYPES[name].block)
    raw = random_blocks(type, seeded(name))
    expected = oracle(name, raw).to(dtype)
    assert torch.equal(to_dense(type, raw, dtype), expected)
    assert torch.equal(dense_as(pack(type, raw), dtype), expected)


@pytest.mark.parametrize("name", ["q4_K", "q8_0"])
def test_chunks_do_not_show(name, monkeypatch):
    """More than one chunk, the last one short; and rows wider than a chunk."""
    monkeypatch.setattr("forge.quant.tensors.CHUNK", 1024)
    for shape in ((11, 768), (3, 2304)):
        type = tensor(name, *shape)
        raw = random_blocks(type, seeded(name))
        assert torch.equal(to_dense(type, raw, torch.float32), oracle(name, raw))
        assert torch.equal(dense(pack(type, raw)), oracle(name, raw))


@pytest.mark.parametrize("name", TYPES)
def test_random_blocks_have_the_asked_size_and_are_seeded(name):
    type = tensor(name, 64, 2 * DTYPES[name].block)
    raw = random_blocks(type, seeded(name), rms=0.02)
    assert torch.equal(raw, random_blocks(type, seeded(name), rms=0.02))
    values = to_dense(type, raw, torch.float32)
    assert values.isfinite().all() and 0.01 < values.square().mean().sqrt() < 0.04
    if name in BLOCK_TYPES and format_of(DTYPES[name]).scales_at:
        place = next(iter(format_of(DTYPES[name]).scales_at))
        d = raw.reshape(-1, DTYPES[name].nbytes)[:, place : place + 2].contiguous().view(torch.float16)
        assert (d < 0).any() and (d > 0).any()


def test_three_axes_keep_their_shape():
    type = tensor("q4_0", 2, 3, 64)
    raw = random_blocks(type, seeded("3d"))
    packed = pack(type, raw)
    assert packed.planes["q"].shape == (2, 3, 8)
    assert torch.equal(dense(packed), to_dense(type, raw, torch.float32))
    assert dense(packed).shape == (2, 3, 64)


def test_wrong_sizes_and_types_are_errors():
    with pytest.raises(FileFormatError, match="144 bytes; 143 are given"):
        pack(tensor("q4_K", 1, 256), torch.zeros(143, dtype=torch.uint8))
    with pytest.raises(UnsupportedError, match="iq1_s"):
        pack(tensor("iq1_s", 1, 256), torch.zeros(50, dtype=torch.uint8))
    with pytest.raises(UnsupportedError, match="no blocks"):
        pack(tensor("f16", 1, 2), torch.zeros(4, dtype=torch.uint8))
