"""Print a model's graph after a pass, its plan, or the code objects of its kernels. Loads no weights.

forge dump model.gguf --after built             the graph as the architecture builds it
forge dump model.gguf --after fuse              after one of the passes
forge dump model.gguf --plan --tokens 512       what runs, with which kernels, and where everything lies
forge dump model.gguf --code gfx942             registers, spills and LDS of every kernel, compiled without that GPU
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from forge.cli import options
from forge.cli.terminal import emit, emit_json, emit_table
from forge.errors import UsageError

if TYPE_CHECKING:
    from forge.compiled import CompiledModel

SUMMARY = "graph after a pass, plan, or code objects of a model"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--after", metavar="PASS", help='the graph after this pass; "built" is before any')
    what.add_argument("--plan", action="store_true", help="the plan at --tokens and --seqs")
    what.add_argument("--code", metavar="ARCH", help="the code objects for an AMD arch id, at --tokens and --seqs")
    parser.add_argument("--tokens", type=int, default=1, metavar="N", help="tokens of the step (default 1)")
    parser.add_argument("--seqs", type=int, default=1, metavar="N", help="sequences of the step (default 1)")
    parser.add_argument("--json", action="store_true", help="with --code: a JSON list")
    options.add_compile_flags(parser)


def run(args: argparse.Namespace) -> int:
    if args.json and not args.code:
        raise UsageError("--json goes with --code; graphs and plans are text")
    if args.code and args.target not in ("auto", args.code):
        raise UsageError(f"--code {args.code} and --target {args.target} name two targets", remedy="leave --target out")
    model = options.open_compiled(args, **({"target": args.code} if args.code else {}))
    if args.after:
        emit(str(model.graph_after(args.after)).rstrip())
    elif args.plan:
        emit(model.plan.describe(sizes(model, args.tokens, args.seqs)).rstrip())
    else:
        _code(model, args)
    return 0


def sizes(model: CompiledModel, tokens: int, seqs: int) -> Mapping[str, int]:
    """The graph's symbols for a step of `tokens` tokens of `seqs` sequences, with one row of logits for each."""
    most = model.limits
    if not 1 <= seqs <= tokens:
        raise UsageError(f"--tokens {tokens} --seqs {seqs}", remedy="at least one sequence, and a token for each")
    if tokens > most.max_tokens or seqs > most.max_seqs:
        raise UsageError(
            f"--tokens {tokens} --seqs {seqs}; the model is compiled for steps of {most.max_tokens} and {most.max_seqs}"
        )
    return {"T": tokens, "S": seqs, "R": seqs}


def _code(model: CompiledModel, args: argparse.Namespace) -> None:
    found = [
        {
            "op": op,
            "kernel": code.name,
            "vgprs": code.vgprs,
            "agprs": code.agprs,
            "spills": code.vgpr_spills + code.sgpr_spills,
            "scratch": code.scratch,
            "lds": code.lds,
            "bytes": len(code.binary),
        }
        for op, code in model.code_objects(sizes(model, args.tokens, args.seqs))
    ]
    if args.json:
        emit_json(found)
        return
    columns = ("op", "kernel", ">VGPRs", ">AGPRs", ">spills", ">scratch", ">LDS", ">code bytes")
    emit_table(columns, [tuple(row.values()) for row in found])
