"""How long things take: on the host's clock, and on a GPU by events around a captured graph."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from forge.lower.device import Action, Device

ENOUGH = 2e-3  # seconds a measurement must last for the clocks' own error to vanish beside it
REPETITIONS = 20


@dataclass(frozen=True)
class Sample:
    """Repetitions of one measurement, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.seconds)

    @property
    def spread(self) -> float:
        """(third quartile - first quartile) / median: one repetition that the machine held up does not count."""
        if len(self.seconds) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.seconds, n=4)
        return (third - first) / self.median


def time_host(call: Action, repetitions: int = REPETITIONS) -> Sample:
    """Seconds of one `call`, which is done when it returns. Short ones are looped until they last long enough."""
    call()
    loops = 1
    while (elapsed := _loop(call, loops)) < ENOUGH:
        loops *= max(2, min(100, int(1.5 * ENOUGH / max(elapsed, 1e-7))))
    return Sample(tuple(_loop(call, loops) / loops for _ in range(repetitions)))


def time_graph(calls: Sequence[Action], device: Device, repetitions: int = REPETITIONS) -> Sample:
    """Seconds that all `calls` together take on a GPU, one after the other as nodes of one captured graph.

    Nothing of the host's launching is in it. Callers give calls on rotating operands where the second use of an
    operand would find it in cache. Raises torch's error if a call cannot be captured.
    """
    import torch

    with device.active():
        for call in calls:
            call()
    replay_once = device.capture(calls).replay
    with device.active():
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

        def replay(loops: int) -> float:
            start.record()
            for _ in range(loops):
                replay_once()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1e3

        replay(1)
        loops = max(1, int(ENOUGH / max(replay(1), 1e-6)))
        return Sample(tuple(replay(loops) / loops for _ in range(repetitions)))


def _loop(call: Action, loops: int) -> float:
    started = perf_counter()
    for _ in range(loops):
        call()
    return perf_counter() - started
