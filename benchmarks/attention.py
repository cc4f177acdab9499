"""Configurations of the attention kernels at an 8B Llama's shapes, timed on the GPU at hand.

    python benchmarks/attention.py [flash] [prefill] [decode] [--all]

32 heads, 8 kv heads, head width 128. Each row is what is shipped or one of its neighbours in the space (`--all`: every
point), as in `benchmarks/linear.py`. GB/s count k and v once, TFLOP/s only what causal attention needs.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch

from forge.bench.sweep import around, best, sweep
from forge.bench.timing import time_graph
from forge.graph.op import Case, Cost, Kernel
from forge.graph.types import tensor
from forge.kernels.flash_attention import flash_attention
from forge.kernels.paged_attention import paged_attention
from forge.lower.device import Device
from forge.lower.devices import find
from forge.lower.select import call_of
from forge.tune.store import TuningStore

H, K, E, B = 32, 8, 128, 16
ATTRS = {"scale": E**-0.5, "window": 0, "softcap": 0.0}
LONGEST = 32768  # keys that a page table has room for: the number of splits follows from it


def show(kernel: Kernel, case: Case, device: Device, cost: Cost, every: bool) -> None:
    """A row for each configuration, and the best one once more."""
    call = call_of(kernel.op, case.types, kernel.op.bind(case.types, case.attrs)[1], device.target)
    near = around(kernel, call, TuningStore().get(kernel, call).config)
    print(f"{case.name}:")
    rows = []
    for row in sweep(kernel, case, device, None if every else near, cost=cost, repetitions=5):
        rows.append(row)
        print(row, flush=True)
    if (found := best(rows)) is not None:
        print(found, "<", flush=True)


def flash(device: Device, every: bool) -> None:
    """Causal, as many queries as keys, batches of 16k tokens; beside torch's own."""
    for t in (2048, 8192):
        s = 16384 // t
        q, kv = tensor("f16", s, t, H, E), tensor("f16", s, t, K, E)
        cost = Cost(bytes=2 * q.nbytes + 2 * kv.nbytes, flops=2 * s * H * E * t * (t + 1))
        show(flash_attention.kernels["flash_rows"], Case(f"flash {t}", (q, kv, kv), ATTRS), device, cost, every)
        heads = (torch.randn(s, H, t, E, device=device.torch_device, dtype=torch.float16) for _ in range(3))
        sdpa = partial(torch.nn.functional.scaled_dot_product_attention, *heads, is_causal=True)
        seconds = time_graph([sdpa], device, 5).median
        print(f"torch {torch.__version__}: {seconds * 1e6:,.1f} us {cost.flops / seconds / 1e12:,.0f} TFLOP/s")


def batch(name: str, s: int, n: int, context: int, device: Device) -> Case:
    """A case of `s` sequences with n new tokens each at the end of `context` keys, whose pages lie in random order."""
    pages, where = s * context // B, device.torch_device
    q, kv, table = tensor("f16", s * n, H, E), tensor("f16", 2, pages, K, B, E), tensor("i32", s, LONGEST // B)

    def make(generator: torch.Generator) -> list[Any]:
        state = torch.empty(kv.concrete(), device=where, dtype=torch.float16).normal_()
        order = torch.zeros(table.concrete(), device=where, dtype=torch.int32)
        order[:, : context // B] = torch.randperm(pages, device=where, dtype=torch.int32).view(s, -1)
        start = torch.arange(s, device=where, dtype=torch.int32) * n
        lengths = [torch.full((s,), x, device=where, dtype=torch.int32) for x in (n, context)]
        return [torch.randn(q.concrete(), device=where, dtype=torch.float16), state, order, start, *lengths]

    return Case(name, (q, kv, table, *[tensor("i32", s)] * 3), ATTRS, make=make)


def decode(device: Device, every: bool) -> None:
    """One new token of each of s sequences."""
    for s in (1, 8, 64):
        for context in (512, 4096, 32768):
            case = batch(f"decode {s} x {context}", s, 1, context, device)
            cost = Cost(bytes=4 * s * context * K * E, flops=4 * s * context * H * E)
            show(paged_attention.kernels["paged_split"], case, device, cost, every)


def prefill(device: Device, every: bool) -> None:
    """A chunk of 2048 tokens at the end of its context, in pages."""
    n = 2048
    for context in (2048, 8192):
        case = batch(f"prefill {n} of {context}", 1, n, context, device)
        flops = 4 * H * E * n * (context - n) + 2 * H * E * n * (n + 1)
        show(paged_attention.kernels["paged_rows"], case, device, Cost(4 * context * K * E, flops), every)


PARTS = {"flash": flash, "prefill": prefill, "decode": decode}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--all", action="store_true", help="every point of the space")
    parser.add_argument("--target", default="gpu", help="the device, as `forge bench` takes it")
    args = parser.parse_args()
    device = find(args.target)
    print(
        f"{device}, {device.target.compute_units} compute units, {device.gbps:,.0f} GB/s, {device.tflops:,.0f} TFLOP/s"
    )
    for name in args.parts:
        PARTS[name](device, args.all)


if __name__ == "__main__":
    main()
