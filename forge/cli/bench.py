"""Measure speed: tokens per second of a model, where its steps' time goes, and single ops beside the roofline.

forge bench model model.gguf -p 512,2048 -n 128 -r 5   rows as llama-bench prints them
forge bench model model.gguf --seqs 1,8,32 -p 0        decoding of several sequences at a time
forge bench model model.gguf --breakdown               each op within a decode step and a prefill step
forge bench ops --op linear                            single ops on their largest cases
forge bench ops --op linear --sweep                    the same at configurations near the one that is used
forge bench ops --emulate gfx1100 --op linear          what their code for an AMD GPU does, counted on this CPU
forge bench --emulate gfx1100                          the same of every op
forge bench modelled model.gguf --target gfx1100       a decode step on a card that is not here, from a model of it

What is counted are facts about the code (instructions, bytes, LDS conflicts, matrix products), and not a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forge.cli import counted, modelled, options
from forge.cli.terminal import emit, emit_json, loading, markdown, note
from forge.errors import UsageError

if TYPE_CHECKING:
    from forge.bench.breakdown import Breakdown
    from forge.bench.model import ModelRow
    from forge.bench.roofline import Rate
    from forge.compiled import CompiledModel
    from forge.gguf import GGUFFile
    from forge.graph.op import Op
    from forge.lower.device import Device

SUMMARY = "speed of a model, of its ops, and where time goes"


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="WHAT")
    model = kinds.add_parser("model", help="tokens per second of a whole model, or each op within its steps")
    options.add_model(model)
    model.add_argument(
        "-p", "--prompt-tokens", type=_counts, default=(512,), metavar="N,..", help="pp tests; 0 for none"
    )
    model.add_argument("-n", "--tokens", type=_counts, metavar="N,..", help="tg tests, by default 128; 0 for none")
    model.add_argument("--seqs", type=_counts, metavar="N,..", help="requests at a time in tg tests, by default 1")
    model.add_argument("-r", "--repetitions", type=int, default=5, metavar="N")
    model.add_argument(
        "--breakdown", action="store_true", help="time each op: prefill of -p tokens, and decode after them"
    )
    model.add_argument("--by-shape", action="store_true", help="with --breakdown: a row for each shape of an op")
    options.add_compile_flags(model)
    ops = kinds.add_parser("ops", help="single ops on their largest cases")
    ops.add_argument("--target", help='"auto", "cpu", "gpu" or "gpu:1"')
    ops.add_argument("--sweep", action="store_true", help="at each configuration that differs in one choice, too")
    modelled.configure(kinds, _counts)
    for verb in (parser, ops):
        given: Any = argparse.SUPPRESS if verb is ops else None  # or what stands before WHAT would be forgotten
        verb.add_argument("--op", action="append", metavar="NAME", default=given, help="only this op; may be repeated")
        verb.add_argument(
            "--emulate", metavar="ARCH", default=given, help="count what the code for this AMD architecture does"
        )
    for verb in (parser, model, ops):
        format: Any = "md" if verb is parser else argparse.SUPPRESS
        verb.add_argument("-o", "--output", choices=("md", "json"), default=format)


def run(args: argparse.Namespace) -> int:
    if args.kind in ("model", "modelled") and (args.emulate or args.op):
        raise UsageError("--emulate and --op are for single ops", remedy="forge bench ops --emulate ARCH")
    if args.emulate:
        if getattr(args, "target", None):
            raise UsageError("--target with --emulate", remedy="--emulate names the target")
        if getattr(args, "sweep", False):
            raise UsageError("--sweep with --emulate", remedy="a sweep is of times; what is emulated is counted")
        return counted.show(_chosen(args), args.emulate, args.output)
    if args.kind == "ops":
        return _ops(args)
    if args.kind == "modelled":
        return modelled.run(args)
    if args.kind is None:
        raise UsageError("nothing is said to be measured", remedy="forge bench model, ops, or --emulate ARCH")
    from forge.gguf import GGUFFile

    if args.repetitions < 1:
        raise UsageError(f"-r {args.repetitions}", remedy="at least one repetition")
    if args.by_shape and not args.breakdown:
        raise UsageError("--by-shape without --breakdown", remedy="it is about a breakdown's rows")
    for flag, given in (("-n", args.tokens), ("--seqs", args.seqs)):
        if given is not None and args.breakdown:
            raise UsageError(
                f"{flag} with --breakdown", remedy="it is of tg tests; a breakdown is of steps at -p tokens"
            )
    with GGUFFile.open(options.model_path(args)) as gguf:
        most = max(args.seqs or (1,)) or 1
        model = options.open_compiled(args, gguf, max_seqs=most if args.max_seqs is None else args.max_seqs)
        (_breakdown if args.breakdown else _model)(args, model, _about(model, gguf))
    return 0


def _load(model: CompiledModel, about: dict[str, Any]) -> None:
    with loading(f"loading {about['model']}") as progress:
        model.load(progress)


def _model(args: argparse.Namespace, model: CompiledModel, about: dict[str, Any]) -> None:
    from forge.bench.model import Test, check, measure

    tests = [Test("pp", n) for n in args.prompt_tokens if n]
    decoded, at_a_time = args.tokens or (128,), args.seqs or (1,)
    tests += [Test("tg", n, seqs) for n in decoded if n for seqs in at_a_time if seqs]
    if not tests:
        raise UsageError("there is nothing to measure", remedy="give -p or -n a number of tokens")
    check(model, tests)
    _load(model, about)
    rows: list[ModelRow] = []
    for row in measure(model, tests, args.repetitions):
        note(f"{row.test}: {row.mean:,.2f} tokens/s")
        rows.append(row)
    if args.output == "json":
        emit_json(about | {"rows": [row.json() for row in rows]})
        return
    fixed = (about["model"], _size(about["bytes"]), _params(about["parameters"]), about["backend"])
    shown = [(*fixed, row.test, f"{row.mean:.2f} ± {row.stddev:.2f}") for row in rows]
    emit(markdown(("model", ">size", ">params", "backend", ">test", ">t/s"), shown))


def _breakdown(args: argparse.Namespace, model: CompiledModel, about: dict[str, Any]) -> None:
    from forge.bench.breakdown import measure

    contexts = [n for n in args.prompt_tokens if n]
    if not contexts or max(contexts) > model.context_length:
        raise UsageError(
            f"-p {','.join(map(str, args.prompt_tokens))} with --breakdown",
            remedy=f"contexts of 1 to {model.context_length} tokens, which the model is compiled for",
        )
    _load(model, about)
    found: list[Breakdown] = []
    for context in contexts:
        for tokens in dict.fromkeys((1, min(context, model.max_tokens))):
            note(f"timing a step of {tokens} tokens at a context of {context}")
            found.append(measure(model, tokens, context, repetitions=args.repetitions, by_shape=args.by_shape))
    if args.output == "json":
        emit_json(about | {"steps": [b.json() for b in found]})
        return
    for breakdown in found:
        emit(
            f"\n{about['model']} on {about['backend']}: {breakdown.tokens} tokens at a context of {breakdown.context}\n"
        )
        whole = breakdown.total
        rows = [
            (p.name, p.calls, p.launches, *_rate(p.rate, whole.seconds), f"{p.sample.spread:.0%}")
            for p in breakdown.parts
        ]
        rows.append(("sum", "", "", *_rate(whole, whole.seconds), ""))
        columns = ("op", ">calls", ">launches", ">us", ">share", ">GB/s", ">TFLOP/s", ">% of roofline", ">spread")
        emit(markdown(columns, rows))
        captured = breakdown.captured
        graph = "" if captured is None else f"; as one captured graph {captured.median * 1e6:,.1f} us"
        emit(f"\nThe step as the engine runs it: {breakdown.eager.median * 1e6:,.1f} us{graph}.")


def _ops(args: argparse.Namespace) -> int:
    from forge.bench.ops import measure
    from forge.lower.devices import find

    device = find(args.target or "auto")
    if args.sweep:
        _sweep(args, device)
        return 0
    rows = list(measure(_chosen(args), device))
    if args.output == "json":
        emit_json({"target": str(device.target), "rows": [row.json() for row in rows]})
        return 0
    columns = ("op", "operands", "kernel", ">us", ">GB/s", ">TFLOP/s", ">% of roofline", ">spread")
    shown = [(r.op, r.types, r.kernel.split("[")[0], *_rate(r.rate), f"{r.sample.spread:.0%}") for r in rows]
    emit(markdown(columns, shown))
    return 0


def _sweep(args: argparse.Namespace, device: Device) -> None:
    """A row for each configuration, those of a call together: the one that is used first."""
    from forge.bench.sweep import Row as SweepRow
    from forge.bench.sweep import neighbours

    rows: list[SweepRow] = []
    for row in neighbours(_chosen(args), device):
        note(str(row))
        rows.append(row)
    if args.output == "json":
        emit_json({"target": str(device.target), "rows": [row.json() for row in rows]})
        return
    shown = []
    for row in rows:
        config = " ".join(f"{k}={v}" for k, v in row.config.items()) + (f" ({row.origin})" if row.origin else "")
        types = ", ".join(str(t) for t in row.call.types if t is not None)
        measured = (
            (*_rate(row.rate), f"{row.sample.spread:.0%}") if row.rate and row.sample else (row.failure, *[""] * 4)
        )
        shown.append((row.kernel.id, types, config, *measured))
    emit(markdown(("kernel", "operands", "config", ">us", ">GB/s", ">TFLOP/s", ">% of roofline", ">spread"), shown))


def _chosen(args: argparse.Namespace) -> dict[str, Op]:
    """The ops that --op names, or all of them."""
    from forge.kernels import load

    ops = load()
    for name in args.op or ():
        if name not in ops:
            raise UsageError(f"no op is called {name!r}", remedy=f"one of: {', '.join(ops)}")
    return {name: ops[name] for name in args.op or ops}


def _rate(rate: Rate, whole: float | None = None) -> tuple[str, ...]:
    share = () if whole is None else (f"{rate.seconds / whole:.1%}",)
    roofline = f"{rate.roofline:.1%} {rate.bound}"
    return (f"{rate.seconds * 1e6:,.1f}", *share, f"{rate.gbps:,.1f}", f"{rate.tflops:,.3f}", roofline)


def _about(model: CompiledModel, gguf: GGUFFile) -> dict[str, Any]:
    """What was measured, and on what."""
    import torch

    parameters = sum(t.type.numel for t in gguf.tensors.values())
    act = next(model.graph.states("pages")).types[0].dtype
    before = model.graph_after("quantize_activations")
    quantized = {f" {node.types[0].dtype}" for node in before.calls() if node.types[0].dtype.activation}
    on_cpu = model.target.kind == "cpu"
    how = f"{torch.get_num_threads()} threads" if on_cpu else torch.cuda.get_device_name(model.device)
    return {
        "model": f"{gguf.architecture} {_params(parameters)} {_file_type(gguf)}",
        "path": str(gguf.path),
        "bytes": sum(t.type.nbytes for t in gguf.tensors.values()),
        "parameters": parameters,
        "backend": f"{model.target} {act}{''.join(quantized)}, {how}",
        "target": str(model.target),
        "torch": torch.__version__,
    }


def _file_type(gguf: GGUFFile) -> str:
    """The mix of types as GGUF names it, or the type of most bytes where the file does not say."""
    from gguf.constants import LlamaFileType

    named = gguf.get("general.file_type", int, None)
    if named in [t.value for t in LlamaFileType]:
        return LlamaFileType(named).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    sizes: dict[str, int] = {}
    for tensor in gguf.tensors.values():
        sizes[str(tensor.type.dtype)] = sizes.get(str(tensor.type.dtype), 0) + tensor.type.nbytes
    return max(sizes, key=lambda name: sizes[name], default="")


def _counts(text: str) -> Sequence[int]:
    """Numbers of tokens or sequences: "512" or "512,2048"."""
    parts = text.split(",")
    if not all(p.isascii() and p.isdigit() and int(p) < 1 << 24 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 512,2048")
    return tuple(map(int, parts))


def _size(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.2f} MiB"


def _params(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"
