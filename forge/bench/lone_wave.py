"""How long a wave takes that has a compute unit to itself, and what it keeps in flight: by its instructions in order.

An instruction is issued when the one before it is, plus the cycles that it takes; a load is done a latency later; a
wait lasts until the loads are done that it is for. Nothing else is modelled: not the latency of arithmetic, nor
conflicts, nor other waves. So the time is a lower bound, but for the latencies: one of loads from memory, and one of
those that a cache is taken to have.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forge.amdgcn.code.tables import family
from forge.amdgcn.counters import kind
from forge.amdgcn.emulate import Ran
from forge.amdgcn.instructions.access.transfer import width
from forge.amdgcn.machine import waits
from forge.amdgcn.matrix import matrix_op
from forge.bench.cards import Card, units_of

LDS_CYCLES = 64.0  # until what a wave reads from LDS is there, about
SLOW = 4  # times the cycles of an addition: reciprocals, roots, powers, and products of 32-bit integers
_SLOW = re.compile(r"v_(rcp|rsq|sqrt|exp|log|sin|cos)_\w+|v_mul_(lo|hi)_[iu]32|v_mad_(co_)?[iu]64_[iu]32")


@dataclass(frozen=True)
class LoneWave:
    """`seconds` from its first instruction to its last, `loaded` bytes of vector loads from memory, and `outstanding`
    bytes of them that are on their way at the most at a time; `rounds` is for how many of their latencies it stood
    still for vector loads."""

    seconds: float
    loaded: int
    outstanding: int
    rounds: float


def lone_wave(trace: Sequence[Ran], card: Card, far: Callable[[int], bool]) -> LoneWave:
    """Follow what a wave ran. `far` says of an address whether a vector load from it takes the card's `memory`; the
    others, and scalar loads, take its `cache`."""
    clock, group = card.clock.value * 1e9, family(card.arch)
    distant, cached = (ns.value * 1e-9 * clock for ns in (card.memory, card.cache))
    now, stalled, loaded, most = 0.0, 0.0, 0, 0
    # by counter (when it is done, bytes, whether it is of memory), the oldest first
    pending: dict[str, deque[tuple[float, int, bool]]] = defaultdict(deque)
    for ran in trace:
        instruction = ran.instruction
        now += _cycles(instruction.name, card)
        for counter, limit in waits.limits(instruction, group).items():
            while len(pending[counter]) > limit:
                when, _, memory = pending[counter].popleft()
                stalled += max(0.0, when - now) if memory else 0.0
                now = max(now, when)
        raised = waits.raised(instruction, group)
        if raised is None:
            continue
        memory, size, delay = (
            raised in (waits.VM, waits.STORE),
            0,
            LDS_CYCLES if instruction.encoding == "DS" else cached,
        )
        if memory and far(ran.address):
            delay = distant
            if kind(instruction.name) == "load":
                size = width(instruction.name.split("_load_")[1]).size * card.target.wave
        pending[raised].append((now + delay, size, memory))
        loaded += size
        most = max(most, sum(size for loads in pending.values() for when, size, _ in loads if when > now))
    return LoneWave(now / clock, loaded, most, stalled / distant)


def _cycles(name: str, card: Card) -> float:
    """Cycles until the next instruction of the wave can be issued."""
    issue, what = units_of(card.target).issue, kind(name)
    if what == "matrix":
        op = matrix_op(card.arch, name, lanes=card.target.wave)
        simds = card.target.compute_units * units_of(card.target).simds
        return (op.flops if op else 0) / (card.target.tflops * 1e12 / simds / (card.clock.value * 1e9))
    return issue * slots(name)


def slots(name: str) -> int:
    """Issue slots of the vector ALU that an instruction takes, in those of an addition."""
    return SLOW if _SLOW.fullmatch(name) else 1
