"""`forge bench model --breakdown`: each op of a prefill step and of a decode step, beside its roofline."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from forge.cli.bench.ops import rate_cells
from forge.cli.bench.report import Report
from forge.cli.terminal import loading, markdown, note
from forge.errors import UsageError

if TYPE_CHECKING:
    from forge.bench.breakdown import Breakdown
    from forge.bench.chart import Bars, Lines
    from forge.compiled import CompiledModel

COLUMNS = ("op", ">calls", ">launches", ">us", ">share", ">GB/s", ">TFLOP/s", ">% of roofline", ">spread")


def measured(
    args: argparse.Namespace, model: CompiledModel, about: dict[str, Any]
) -> tuple[Report, Sequence[Lines | Bars]]:
    """The steps at -p tokens: decoding after them, and prefill of them."""
    from forge.bench.breakdown import measure
    from forge.bench.pictures import of_steps

    wanted = (512,) if args.n_prompt is None else args.n_prompt
    contexts = [n for n in wanted if n]
    if not contexts or max(contexts) > model.context_length:
        raise UsageError(
            f"-p {','.join(map(str, wanted))} with --breakdown",
            remedy=f"contexts of 1 to {model.context_length} tokens, which the model is compiled for",
        )
    with loading(f"loading {about['model']}") as progress:
        model.load(progress)
    found: list[Breakdown] = []
    for context in contexts:
        for tokens in dict.fromkeys((1, min(context, model.max_tokens))):
            note(f"timing a step of {tokens} tokens at a context of {context}")
            found.append(measure(model, tokens, context, repetitions=args.repetitions, by_shape=args.by_shape))
    rows = [{"tokens": b.tokens, "context": b.context} | part.json() for b in found for part in b.parts]
    nested = {"steps": [b.json() for b in found]}
    return Report("bench_steps", about, rows, lambda: "\n".join(_text(about, found)), nested), of_steps(found)


def _text(about: dict[str, Any], found: Sequence[Breakdown]) -> list[str]:
    lines = []
    for step in found:
        lines.append(f"\n{about['model']} on {about['backend']}: {step.tokens} tokens at a context of {step.context}\n")
        rows = [
            (p.name, p.calls, p.launches, *_shared(rate_cells(p.rate), p.share_of(step)), f"{p.sample.spread:.0%}")
            for p in step.parts
        ]
        rows.append(("sum", "", "", *_shared(rate_cells(step.total), 1.0), ""))
        lines.append(markdown(COLUMNS, rows))
        graph = "" if step.captured is None else f"; as one captured graph {step.captured.median * 1e6:,.1f} us"
        lines.append(f"\nThe step as the engine runs it: {step.eager.median * 1e6:,.1f} us{graph}.")
    return lines


def _shared(cells: tuple[str, ...], share: float) -> tuple[str, ...]:
    return (cells[0], f"{share:.1%}", *cells[1:])
