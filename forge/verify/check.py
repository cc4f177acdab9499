"""A kernel on a case: built as the runtime builds it, executed in one way or another, compared with the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from forge.graph.op import Call, Case, Kernel, Op
from forge.kernels import load
from forge.lower import schedule
from forge.lower.launch import Task
from forge.lower.select import Selection, call_of
from forge.lower.values import type_of
from forge.target import DeviceTarget
from forge.tune.store import TuningStore
from forge.verify.compare import compare
from forge.verify.memory import Guarded
from forge.verify.seeded import apart, operands, oracle

STORE = TuningStore()

Execute = Callable[[Task], Any]


@dataclass(frozen=True)
class Outcome:
    """The largest relative error of a kernel's results on a case, and what executing each task gave."""

    error: float
    tasks: tuple[Any, ...]


def serving(target: DeviceTarget, *, every: bool = False) -> Iterator[tuple[Op, Case, Kernel, Call]]:
    """(op, case, kernel, call) for kernels that serve a case on `target`, by the case's declared types.

    They are the kernels that the tuning store chooses for the cases and then, as other data may choose otherwise, each
    kernel on the cheapest and the costliest small case of the others that it serves, or on `every` one of these.
    """
    for op in load().values():
        others: dict[Kernel, list[tuple[int, Case, Call]]] = {}
        for case in op.cases:
            call = call_of(op, case.types, case.attrs, target)
            chosen = STORE.choose(call)
            for kernel in op.kernels.values():
                if chosen is not None and kernel is chosen[0]:
                    yield op, case, kernel, call
                elif kernel.serves(call) and (case.small or every):
                    cost = op.cost(*case.types, **op.bind(case.types, case.attrs)[1])
                    others.setdefault(kernel, []).append((cost.bytes + cost.flops, case, call))
        for kernel, cases in others.items():
            cases.sort(key=lambda found: found[0])
            for _, case, call in cases if every else cases[:: max(1, len(cases) - 1)]:
                yield op, case, kernel, call


def build(
    kernel: Kernel, call: Call, values: Sequence[Any], device: str, config: Mapping[str, Any] | None = None
) -> tuple[tuple[Any, ...], list[Task], Guarded]:
    """(outputs, tasks, the memory of results and scratch) of a kernel at its stored configuration, or at `config`."""
    choice = STORE.get(kernel, call)
    selection = Selection(call, kernel, replace(choice, config=config) if config else choice)
    scheduled = schedule.of_call(call.op, call.types, call.attrs, call.target, STORE, selection)
    operands, memory = dict(zip(call.op.operands, values, strict=True)), Guarded(device)
    built = schedule.build(scheduled, lambda p: operands[p.leaf.name] if p.leaf else memory.empty(p.type))
    return tuple(built.outputs.values()), [task for _, task in built.tasks], memory


def check(
    op: Op, case: Case, kernel: Kernel, target: DeviceTarget, device: str, execute: Execute = lambda task: task()
) -> Outcome:
    """Run a kernel on a case and compare every result with the oracle. Raises NumericsError where they differ."""
    values = operands(op, case)
    reference = oracle(op, [v.clone() if isinstance(v, torch.Tensor) else v for v in values], case.attrs)
    placed = [None if v is None else v.to(device) for v in values]
    if case.strided:  # a copy to a device packs rows, so they are set apart there once more
        placed = [apart(v) for v in placed]
    call = call_of(op, tuple(type_of(v) for v in placed), case.attrs, target)
    outputs, tasks, memory = build(kernel, call, placed, device)
    done = tuple(execute(task) for task in tasks)
    if device != "cpu":
        torch.cuda.synchronize(device)
    memory.check(f"{kernel.id} on {case.name}")
    error = max(
        compare(
            got, ref, f"{kernel.id} on {case.name}, result {i}", fused=op.equals is not None, rounds=kernel.rounds(call)
        )
        for i, (got, ref) in enumerate(zip(outputs, reference, strict=True))
    )
    return Outcome(error, done)
