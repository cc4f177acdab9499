"""Times of `linear` on a GPU at the shapes of Llama-3.1-8B: python benchmarks/linear.py [--quick] [--only gemv,tile]

Each row is a kernel at one configuration: the median of replays of a captured graph that runs over rotating copies of
the weight (more than 600 MB, so that no cache holds them), the bytes a call must move over that time, and its share of
`--gbps`, the measured rate of a device copy (4300 on an H200); products of many tokens print TFLOP/s. The best
configuration of each group is marked.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time

import torch

from forge.graph.types import tensor
from forge.kernels.linear import linear
from forge.kernels.quantize_q8 import quantize_q8
from forge.lower.gpu import GPU
from forge.lower.select import Selection, call_of
from forge.lower.values import empty, type_of
from forge.quant import pack, random_blocks, to_dense
from forge.tune.store import Choice

SHAPES = {"gate+up": (28672, 4096), "down": (4096, 14336), "qkv": (6144, 4096), "o": (4096, 4096)}
HEAD = {"head": (128256, 4096)}
ROTATE = 600 << 20

GEMV = [(4, 1024, 1, 1), (4, 1024, 3, 1), (2, 1024, 1, 1), (1, 2048, 1, 1), (2, 2048, 1, 2), (2, 4096, 1, 2)]
FLOAT = [(2, 512, 1, 4), (1, 512, 1, 1), (4, 256, 1, 4)]
DENSE = [(2, 1024, 1, 4), (1, 1024, 1, 1), (1, 2048, 1, 4), (1, 1024, 3, 2)]
TILE = [(64, 64, 32, 8, 1, 4), (128, 128, 32, 8, 1, 8), (128, 128, 64, 8, 1, 8), (64, 128, 64, 8, 1, 4)]
GEMV_NAMES = ("ROWS", "BLOCK_K", "STAGES", "num_warps")
FEW = [(32, 64, 1, 2, 8), (32, 128, 1, 3, 4), (16, 256, 1, 3, 4), (32, 128, 1, 4, 8), (64, 128, 1, 3, 8)]
FEW_NAMES = ("BLOCK_N", "BLOCK_K", "BAND", "STAGES", "num_warps")
TILE_NAMES = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "BAND", "STAGES", "num_warps")


def weight(name: str, n: int, k: int, generator: torch.Generator):
    """A random weight on the GPU: planes of a block type, or a dense tensor."""
    kind = tensor(name, n, k)
    raw = random_blocks(kind, generator, rms=0.02)
    return pack(kind, raw) if kind.dtype.quantized else to_dense(kind, raw, torch.float16)


def timed(steps: list, replays: int) -> float:
    """Median seconds of one pass over `steps` in a captured graph."""
    for step in steps:
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for step in steps:
            step()
    times = []
    for _ in range(replays):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def measure(kernel: str, x, weights: list, config: dict, gbps: float) -> tuple[float, str]:
    """(seconds a call, a row of the table)."""
    target = GPU().target
    call = call_of(linear, (type_of(x), type_of(weights[0]), None), {"out": "f16"}, target)
    chosen = linear.kernels[kernel]
    selection = Selection(call, chosen, Choice(config or chosen.space.default, "benchmark"))
    work = tuple(empty(t, "cuda") for t in selection.workspace)
    y = empty(call.results[0], "cuda")
    steps = [step for w in weights for step in selection.build((y,), (x, w, None), work)]
    seconds = timed(steps, 20) / len(weights)
    cost = linear.cost(*call.types, out="f16")
    rate = cost.bytes / seconds / 1e9
    shown = " ".join(f"{n}={v}" for n, v in config.items())
    row = f"{kernel:18} {call.types[0]!s:14} {call.types[1]!s:20} {seconds * 1e6:9.1f} us"
    if call.types[0].shape[0] >= 256:
        return seconds, f"{row} {cost.flops / seconds / 1e12:8.1f} TFLOP/s           {shown}"
    return seconds, f"{row} {rate:8.0f} GB/s {100 * rate / gbps:5.1f} %  {shown}"


def group(kernel: str, x, weights: list, names: tuple, points: list, gbps: float) -> None:
    """Print a row a configuration, and mark the quickest."""
    rows = []
    for point in points:
        try:
            rows.append(measure(kernel, x, weights, dict(zip(names, point, strict=True)), gbps))
        except Exception as error:  # a configuration that does not fit is a row of the table, not the end of it
            print(f"{kernel:18} {point}: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
    best = min((seconds for seconds, _ in rows), default=0.0)
    for seconds, row in rows:
        print(row + (" <" if seconds == best else ""))
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gbps", type=float, default=4300.0, help="what a device copy reaches, GB/s")
    parser.add_argument("--only", default="gemv,float,tile", help="which parts to run")
    parser.add_argument("--types", default="q4_K,q6_K,q8_0,f16")
    parser.add_argument("--quick", action="store_true", help="the first configuration of each kernel")
    args = parser.parse_args()
    parts, began = args.only.split(","), time.monotonic()
    generator = torch.Generator("cuda").manual_seed(0)
    cut = 1 if args.quick else None
    print(torch.cuda.get_device_name(), f"torch {torch.__version__}")
    for name in args.types.split(","):
        dense = name == "f16"
        for n, k in (SHAPES | (HEAD if name in ("q4_K", "q6_K") else {})).values():
            first = weight(name, n, k, generator)
            copies = max(1, -(-ROTATE // tensor(name, n, k).nbytes))
            weights = [first, *(weight(name, n, k, generator) for _ in range(copies - 1))]
            x = torch.randn(1, k, generator=generator, device="cuda").half()
            if "gemv" in parts and not dense:
                for residual in (False, True):
                    few = quantize_q8(x, residual=residual)
                    group("linear_gemv", few, weights, GEMV_NAMES, GEMV[:cut], args.gbps)
            if "float" in parts or (dense and "gemv" in parts):
                kernel, points = ("linear_gemv_dense", DENSE) if dense else ("linear_gemv_float", FLOAT)
                group(kernel, x, weights, GEMV_NAMES, points[:cut], args.gbps)
            if "tile" in parts and n == 28672 and name in ("q4_K", "f16"):
                for t in (512, 2048):
                    many = torch.randn(t, k, generator=generator, device="cuda").half()
                    group("linear_library", many, weights[:4], (), [()], args.gbps)
                    group("linear_tile", many, weights[:4], TILE_NAMES, TILE[:cut], args.gbps)
                    if not dense:
                        for residual in (False, True):
                            codes = quantize_q8(many, residual=residual)
                            group("linear_library", codes, weights[:4], (), [()], args.gbps)
            if "tile" in parts and n == 28672 and not dense:
                for t, residual in itertools.product((4, 8, 16, 64, 128), (False, True)):
                    few = quantize_q8(torch.randn(t, k, generator=generator, device="cuda").half(), residual=residual)
                    kernel, names, points = (
                        ("linear_gemv", GEMV_NAMES, GEMV[:3])
                        if t <= 8
                        else ("linear_tile_few", FEW_NAMES, FEW)
                        if t <= 64
                        else ("linear_tile", TILE_NAMES, TILE)
                    )
                    if name == "q4_K" or t in (8, 64):
                        group(kernel, few, weights[:8], names, points[:cut], args.gbps)
    print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
