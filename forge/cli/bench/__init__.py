"""Measure speed: tokens per second of a model, where its steps' time goes, and single ops beside the roofline.

forge bench model model.gguf -p 512,2048 -n 128 -r 5   rows as llama-bench prints them
forge bench model model.gguf -p 0 -d 0,4096            at depths of the KV cache
forge bench model model.gguf --seqs 1,8,32 -p 0        decoding of several sequences at a time
forge bench model model.gguf -p 0 --graph              beside the rate of the step's captured graph alone, on a GPU
forge bench model model.gguf --breakdown               each op within a decode step and a prefill step
forge bench model model.gguf --seqs 1,2,4,8 --plot a.svg a picture of tokens per second; of --breakdown, where time goes
forge bench latency model.gguf --concurrency 1,8,32    many requests: time to the first token, and between tokens
forge bench latency model.gguf --rate 4 --requests 100 the same of requests that arrive at random, four a second
forge bench ops --op linear                            single ops on their largest cases
forge bench ops --op linear --sweep                    the same at configurations near the one that is used
forge bench ops --emulate gfx1100 --op linear          what their code for an AMD GPU does, counted on this CPU
forge bench --emulate gfx1100                          the same of every op
forge bench modelled model.gguf --target gfx1100       a decode step on a card that is not here, from a model of it

Each prints Markdown, or with -o csv, json, jsonl or sql rows for programs. What is counted are facts about the code
(instructions, bytes, LDS conflicts, matrix products), and not a time.
"""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any

from forge.cli.bench import latency, model, modelled, ops
from forge.cli.bench.report import FORMATS
from forge.errors import UsageError

SUMMARY = "speed of a model, of its ops, and where time goes"
KINDS: dict[str, ModuleType] = {"model": model, "latency": latency, "ops": ops, "modelled": modelled}


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="WHAT")
    listed = {name: kinds.add_parser(name, help=module.HELP) for name, module in KINDS.items()}
    for name, module in KINDS.items():
        module.configure(listed[name])
    # What is given before WHAT would be forgotten, if the parser of WHAT had a default of its own.
    ops.add_choice(parser, None)
    ops.add_choice(listed["ops"], argparse.SUPPRESS)
    for verb in (parser, *listed.values()):
        default: Any = "md" if verb is parser else argparse.SUPPRESS
        verb.add_argument("-o", "--output", choices=FORMATS, default=default, help="the form of the rows")


def run(args: argparse.Namespace) -> int:
    if args.kind not in (None, "ops") and (args.emulate or args.op):
        raise UsageError("--emulate and --op are for single ops", remedy="forge bench ops --emulate ARCH")
    if args.kind is None and not args.emulate:
        raise UsageError("nothing is said to be measured", remedy=f"forge bench {', '.join(KINDS)}, or --emulate ARCH")
    code: int = KINDS[args.kind or "ops"].run(args)
    return code
