"""`forge bench modelled`: what a decode step would take on a card that need not be here, and why.

forge bench modelled model.gguf --target gfx1100                   each kind of node in a step of one token
forge bench modelled model.gguf --target gfx942 --seqs 1,8,64 -d 4096
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from forge.cli import options
from forge.cli.bench.counts import counts
from forge.cli.bench.report import Report
from forge.cli.terminal import markdown, note

if TYPE_CHECKING:
    from forge.bench.modelled import NodeModel, StepModel

HELP = "time of a decode step on a card that is not here, from a model of it"
ABOUT = (
    "Modelled, not measured: no card has run this. Registers, spills and LDS are of compiled code, instructions and "
    "bytes in flight of emulated code."
)
# Of code: vector are lanes that run an instruction of the vector ALU, slow ones four times; rounds are the latencies
# that a wave stands still for loads.
BARE = "Modelled, not measured. Code for this card is not read: nothing is counted but bytes and operations."
CODE = (
    ">vector/weight",
    ">multiply-adds/weight",
    ">VGPRs",
    ">spills",
    ">LDS",
    ">waves/CU",
    ">KB in flight/CU",
    ">rounds",
)


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("--seqs", type=counts, default=(1,), metavar="N,..", help="sequences in a step, by default 1")
    parser.add_argument("-d", "--n-depth", type=int, default=512, metavar="N", help="tokens before it, by default 512")
    options.add_compile_flags(parser)


def run(args: argparse.Namespace) -> int:
    from forge.bench.cards import card_of
    from forge.bench.modelled import model_step

    model = options.open_compiled(args, max_seqs=max(args.seqs) if args.max_seqs is None else args.max_seqs)
    card = card_of(model.target.arch)
    steps = []
    for seqs in args.seqs:
        steps.append(model_step(model, card, seqs, args.n_depth))
        note(f"{seqs} sequences: {steps[-1].tokens_per_second:,.1f} tokens/s, modelled")
    shown = [step.json() for step in steps]
    rows = [{"seqs": step["seqs"], "depth": step["depth"]} | node for step in shown for node in step["nodes"]]
    about = {"about": ABOUT if card.target.backend == "hip" else BARE}
    report = Report("bench_modelled", about, rows, lambda: "\n".join(map(_text, steps)), {"steps": shown})
    report.emit(args.output)
    return 0


def _text(step: StepModel) -> str:
    bare = step.card.target.backend != "hip"
    columns = ("op", "kernel", "operands", ">nodes", ">us", ">share", "bound", ">us of memory", *(() if bare else CODE))
    lines = [
        f"\n{step.card.name} ({step.card.arch}): {step.seqs} tokens, a sequence each, at a depth of {step.depth}\n",
        markdown(columns, [_cells(node, step.seconds) for node in step.nodes]),
        f"\n{step.launches} nodes, {step.bytes / 1e9:.3f} GB: {step.seconds * 1e6:,.0f} us, "
        f"{step.tokens_per_second:,.1f} tokens/s, {step.tokens_per_second / step.limit:.0%} of {step.limit:,.1f}, "
        "which the bytes alone allow.",
        BARE if bare else ABOUT,
        *(f"- {name}: {figure.value:,g} ({figure.source})" for name, figure in step.card.sources.items()),
    ]
    return "\n".join(lines)


def _cells(node: NodeModel, whole: float) -> tuple[object, ...]:
    time = (f"{node.seconds * 1e6:,.1f}", f"{node.count * node.seconds / whole:.1%}", node.bound)
    cells = (node.op, node.kernel, node.shape, node.count, *time, f"{node.terms['memory'] * 1e6:,.1f}")
    if node.code is None or node.wave is None or node.in_flight is None:
        return cells
    made, target, scale = node.code.code, node.card.target, node.code.scale
    of_weight = ("", "")
    if node.weights:
        matrix = scale * node.code.counters.multiply_adds / node.weights
        of_weight = (f"{scale * node.code.lanes / node.weights:.2f}", f"{matrix:,.0f}" if matrix else "")
    spills = made.vgpr_spills + made.sgpr_spills
    waves = node.code.resident(target) * node.code.waves(target)
    return (
        *cells,
        *of_weight,
        made.vgprs,
        spills,
        made.lds,
        waves,
        f"{node.in_flight / 1024:.1f}",
        f"{node.wave.rounds:.1f}",
    )
