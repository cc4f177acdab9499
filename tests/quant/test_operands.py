"""What reaches a kernel for a quantized tensor: planes in the layout it reads, and a format, keyed by its sources."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from kernels.harness import OPS

from forge.errors import UnsupportedError
from forge.graph.types import DTYPES, tensor
from forge.language import interpreted
from forge.lower.eager import run
from forge.lower.launch import Site
from forge.quant import dense, dense_as, pack, quantize, random_blocks, unpack
from forge.target import TARGETS
from forge.triton_internals import absent_driver, compiled

X = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
GPU, CPU = TARGETS["gfx942"], TARGETS["cpu"]


def tiled():
    """A weight in a layout that nothing here reads."""
    type = tensor("q4_0", 5, 64)
    return replace(pack(type, random_blocks(type, torch.Generator().manual_seed(0))), layout="tiles")


def linear(x, w, target, out="f32"):
    return run(OPS["linear"], (x, w, None), {"out": out}, target)


READERS = {
    "few floats": lambda w: linear(X.half(), w, GPU),
    "few a16": lambda w: linear(quantize(X, DTYPES["a16"]), w, GPU),
    "tiles": lambda w: linear(X.half().repeat(9, 1), w, GPU, "f16"),
    "tiles of a8": lambda w: linear(quantize(X.repeat(9, 1), DTYPES["a8"]), w, GPU, "f16"),
    "linear on the CPU": lambda w: linear(X, w, CPU),
    "the head on the CPU": lambda w: linear(X.bfloat16(), w, CPU),
    "embed": lambda w: run(OPS["embed"], (torch.zeros(2, dtype=torch.int32), w, None), {"out": "f32"}, GPU),
    "embed on the CPU": lambda w: run(OPS["embed"], (torch.zeros(2, dtype=torch.int32), w, None), {"out": "f32"}, CPU),
    "dequantize": lambda w: run(OPS["dequantize"], (w,), {"out": "f32"}, GPU),
    "dequantize on the CPU": lambda w: run(OPS["dequantize"], (w,), {"out": "f32"}, CPU),
    "dense": dense,
    "dense_as": lambda w: dense_as(w, torch.float16),
    "unpack": unpack,
    "rows": lambda w: w.rows(torch.tensor([0])),
}


@pytest.mark.cpu
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_planes_in_another_layout_are_refused_by_whoever_reads_them(reader):
    told = r"q4_0\[5,64\] is stored in the layout 'tiles'; what reads it takes 'rows'"
    with pytest.raises(UnsupportedError, match=told):
        reader(tiled())


SOURCE = """
from dataclasses import replace

from forge.language import jit, tl
from forge.quant import decode
from forge.quant.q4_0 import FORMAT as Q4_0


@jit
def doubled(codes):
    return codes * 2


@jit
def codes(w, q, at, mask, FIELD: tl.constexpr):
    return doubled(decode.codes_4(w, q, at, mask, FIELD))


FORMAT = replace(Q4_0, codes=codes)
"""


def kernel_of(source, folder):
    """`dequantize` for gfx942, compiled with the format that a file of this source defines."""
    path = folder / "edited.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("edited", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    site = Site(GPU, {"ROWS": 2, "BLOCK_K": 64, "num_warps": 1})
    type = tensor("q4_0", 2, 64)
    w = pack(type, random_blocks(type, torch.Generator().manual_seed(0))).to("meta")
    y = torch.empty(2, 64, dtype=torch.float16, device="meta")
    launch = OPS["dequantize"].kernels["dequantize_tile"].build(site, y, w, out="f16")
    launch = replace(launch, meta={**launch.meta, "W": module.FORMAT})
    with absent_driver(GPU.backend, GPU.arch, GPU.wave):
        return compiled(launch.fn, launch.grid, launch.args, launch.meta), module.FORMAT


@pytest.mark.compile
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
@pytest.mark.parametrize("edit", [
    ("codes * 2", "codes * 3"),
    ("return doubled(decode.codes_4(w, q, at, mask, FIELD))", "return decode.codes_4(w, q, at, mask, FIELD)"),
], ids=["in a function that it calls", "itself"])  # fmt: skip
def test_an_edited_device_function_is_another_kernel(edit, tmp_path):
    """By the key of Triton's cache on disk and by that in memory; the same source is the same kernel."""
    (before, form), (again, same) = kernel_of(SOURCE, tmp_path), kernel_of(SOURCE, tmp_path)
    after, edited = kernel_of(SOURCE.replace(*edit), tmp_path)
    assert same.cache_key == form.cache_key and repr(same) == repr(form) and again.hash == before.hash
    assert edited.cache_key != form.cache_key and repr(edited) != repr(form)
    assert after.hash != before.hash and after.asm["amdgcn"] != before.asm["amdgcn"]
