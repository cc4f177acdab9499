"""Configurations of `linear`'s kernels at the shapes of Llama-3.1-8B, timed on the GPU at hand.

    python benchmarks/linear.py                                   what is shipped, and its neighbours in the space
    python benchmarks/linear.py --tokens 1 --types q4_K --all     every point of the space
    python benchmarks/linear.py --tokens 512 --kernel linear_tile --shapes gate+up

Each row is a configuration: median and spread of replays of a captured graph that runs over more than 600 MB of
operands, the bytes that a call must move over that time (or its arithmetic), and the share of what the device reaches.
"<" marks the best of a kernel on a call.
"""

from __future__ import annotations

import argparse

from forge.bench.sweep import around, best, sweep
from forge.graph.op import Case
from forge.graph.types import tensor
from forge.kernels.linear import linear
from forge.lower.devices import find
from forge.lower.select import call_of, select
from forge.tune.store import TuningStore

SHAPES = {
    "gate+up": (28672, 4096), "down": (4096, 14336), "qkv": (6144, 4096), "o": (4096, 4096), "head": (128256, 4096),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", default="gpu", help="the device, as `forge bench` takes it")
    parser.add_argument("--tokens", default="1,8,64,512")
    parser.add_argument("--types", default="q4_K,q6_K,q8_0", help="of the weight")
    parser.add_argument("--activations", default="a8,a16")
    parser.add_argument("--out", default="f16", help="the result's type")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--kernel", help="this one instead of the one that the store chooses")
    parser.add_argument("--all", action="store_true", help="every point of the space")
    parser.add_argument("--quick", action="store_true", help="the shipped configuration alone")
    args = parser.parse_args()
    device, store = find(args.target), TuningStore()
    print(
        f"{device}, {device.target.compute_units} compute units, {device.gbps:,.0f} GB/s, {device.tflops:,.0f} TFLOP/s"
    )
    for w in args.types.split(","):
        for n, k in (SHAPES[name] for name in args.shapes.split(",")):
            for t in map(int, args.tokens.split(",")):
                for x in args.activations.split(","):
                    types = (tensor(x, t, k), tensor(w, n, k), None)
                    call = call_of(linear, types, {"out": args.out}, device.target)
                    kernel = linear.kernels[args.kernel] if args.kernel else select(call, store).kernel
                    shipped = store.get(kernel, call).config
                    points = kernel.space.points(call) if args.all else around(kernel, call, shipped)
                    configs = [shipped] if args.quick else points
                    rows = []
                    for row in sweep(kernel, Case("8B", types, {"out": args.out}), device, configs):
                        rows.append(row)
                        print(row, flush=True)
                    if (found := best(rows)) is not None:
                        print(found, "<", flush=True)


if __name__ == "__main__":
    main()
