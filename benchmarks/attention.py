"""Times of the attention kernels on the GPU at hand, at a few configurations each; under a minute in all.

    python benchmarks/attention.py [flash] [prefill] [decode]

Shapes are an 8B Llama's: 32 heads, 8 kv heads, head width 128. Times are of captured graphs, over caches that together
exceed the L2; GB/s count k and v once, TFLOP/s only what causal attention needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from forge.bench.timing import time_graph
from forge.graph.op import Kernel
from forge.kernels.flash_attention import flash_attention
from forge.kernels.paged_attention import paged_attention
from forge.lower.gpu import GPU
from forge.lower.select import Selection, call_of
from forge.lower.values import empty, type_of
from forge.target import DeviceTarget
from forge.tune.store import Choice, TuningStore

H, K, E, B = 32, 8, 128, 16
SCALE = E**-0.5
ATTRS = {"scale": SCALE, "window": 0, "softcap": 0.0}
CACHES = 512 << 20  # bytes of k and v that the calls of one graph read between them
POOL = 2 << 30  # bytes of pages that these are taken from, or as many as one call reads
LONGEST = 32768  # keys that a page table has room for: the number of splits follows from it

Config = Mapping[str, Any]

FLASH = [
    {"BLOCK_M": m, "BLOCK_N": n, "PEEL": True, "num_warps": w, "num_stages": s}
    for m, n, w, s in ((128, 64, 4, 3), (128, 64, 8, 3), (128, 128, 8, 2), (128, 128, 8, 3), (64, 64, 4, 3))
]
ROWS = [
    {"BLOCK_M": m, "BLOCK_N": n, "num_warps": w, "num_stages": s}
    for m, n, w, s in ((64, 64, 4, 2), (128, 64, 8, 2), (128, 64, 8, 3), (128, 128, 8, 2))
]
SPLIT = [
    {"BLOCK_M": 16, "BLOCK_N": n, "MIN_KEYS": k, "num_warps": w, "num_stages": s}
    for n, k, w, s in (
        (64, 256, 4, 2),
        (64, 128, 4, 3),
        (64, 64, 4, 2),
        (32, 128, 2, 3),
        (128, 128, 4, 2),
        (64, 128, 8, 3),
    )
]
STORE = TuningStore()


def steps(
    kernel: Kernel, operands: Sequence[Any], target: DeviceTarget, config: Config | None, **attrs: Any
) -> Callable[[], None]:
    """One call of `kernel` at `config`, or at what the tuning store says."""
    call = call_of(kernel.op, tuple(type_of(x) for x in operands), ATTRS | attrs, target)
    choice = STORE.get(kernel, call) if config is None else Choice(config, "benchmark")
    selection = Selection(call, kernel, choice)
    outputs = tuple(empty(t, "cuda") for t in call.results)
    built = selection.build(outputs, tuple(operands), tuple(empty(t, "cuda") for t in selection.workspace))

    def run() -> None:
        for step in built:
            step()

    return run


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.float16)


def show(name: str, config: Config | None, seconds: float, rate: float, unit: str, limit: float) -> None:
    shown = "shipped" if config is None else " ".join(f"{k}={v}" for k, v in config.items())
    print(f"{name:28} {seconds * 1e6:10.1f} us {rate:8.0f} {unit} {100 * rate / limit:4.0f}%  {shown}", flush=True)


def flash(target: DeviceTarget) -> None:
    """Causal, T = C, batches of 16k tokens; beside torch's own."""
    kernel = flash_attention.kernels["flash_rows"]
    for t in (2048, 8192):
        s = 16384 // t
        q, k, v = normal(s, t, H, E), normal(s, t, K, E), normal(s, t, K, E)
        flops = 2 * s * H * E * t * (t + 1)
        qh, kh, vh = (x.transpose(1, 2) for x in (q, *(x.repeat_interleave(H // K, 2) for x in (k, v))))
        sdpa = partial(torch.nn.functional.scaled_dot_product_attention, qh, kh, vh, is_causal=True)
        calls: list[tuple[Config | None, Callable[[], Any]]] = [({"torch": torch.__version__}, sdpa)]
        calls += [(c, steps(kernel, (q, k, v), target, c, causal=True)) for c in (None, *FLASH)]
        for config, call in calls:
            seconds = time_graph([call], GPU(), 5).median
            show(f"flash {t}", config, seconds, flops / seconds / 1e12, "TFLOP/s", target.tflops)


def caches(s: int, n: int, context: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Operands of paged attention whose pages lie in random order, for as many calls as read CACHES bytes."""
    used = s * context // B
    page = 4 * K * B * E
    pages = max(POOL // page, used)
    kv = torch.empty(2, pages, K, B, E, device="cuda", dtype=torch.float16).normal_()
    order = torch.randperm(pages, device="cuda", dtype=torch.int32)
    lengths = [torch.full((s,), x, device="cuda", dtype=torch.int32) for x in (n, context)]
    start = torch.arange(s, device="cuda", dtype=torch.int32) * n
    for i in range(max(1, min(pages // used, CACHES // (used * page)))):
        table = torch.zeros(s, LONGEST // B, device="cuda", dtype=torch.int32)
        table[:, : context // B] = order[i * used : (i + 1) * used].view(s, -1)
        yield normal(s * n, H, E), kv, table, start, *lengths


def decode(target: DeviceTarget) -> None:
    """One new token of each of s sequences."""
    kernel = paged_attention.kernels["paged_split"]
    for s in (1, 8, 64):
        for context in (512, 4096, 32768):
            operands = list(caches(s, 1, context))
            for config in (None, *SPLIT):
                calls = [steps(kernel, x, target, config) for x in operands]
                seconds = time_graph(calls, GPU(), 5).median / len(calls)
                read = 4 * s * context * K * E
                show(f"decode {s} x {context}", config, seconds, read / seconds / 1e9, "GB/s", target.gbps)


def prefill(target: DeviceTarget) -> None:
    """A chunk of 2048 tokens at the end of its context, in pages."""
    kernel = paged_attention.kernels["paged_rows"]
    n = 2048
    for context in (2048, 8192):
        operands = next(caches(1, n, context))
        flops = 4 * H * E * n * (context - n) + 2 * H * E * n * (n + 1)
        for config in (None, *ROWS):
            seconds = time_graph([steps(kernel, operands, target, config)], GPU(), 5).median
            show(f"prefill {n} of {context}", config, seconds, flops / seconds / 1e12, "TFLOP/s", target.tflops)


def main() -> None:
    target = GPU().target
    print(f"{torch.cuda.get_device_name()} ({target}), {target.compute_units} compute units; % of the data sheet")
    parts = {"flash": flash, "prefill": prefill, "decode": decode}
    for name in sys.argv[1:] or parts:
        parts[name](target)


if __name__ == "__main__":
    main()
