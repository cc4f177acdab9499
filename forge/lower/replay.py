"""The launches of a step as one captured graph of the device, which must earn its trust.

Decoding one token is hundreds of launches of a few microseconds, and the host cannot issue them as fast as the device
carries them out. Replayed as one graph they follow each other without it. But drivers have replayed stale arguments,
or faulted, on some chips; so of each set of sizes

    the first step   is launched, which compiles kernels and wakes libraries;
    the second       is launched, and then captured, which runs nothing;
    the third        is replayed and then launched on the same inputs, which the capture has not seen: results and
                     states must be the same to the last bit;
    from then on     it is replayed.

A graph that differs, or cannot be captured, is refused for good, with a warning and the reason in `refused`; its steps
are launched one by one. What else it wrote cannot be taken back: if that was in a state, a StateLostError says so once
the step was launched. Graphs take memory of the device: above `room` the one used longest ago goes, and begins anew.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from forge.errors import DeviceError, StateLostError
from forge.lower.device import Action, Captured, Device

Key = tuple[int, ...]


@dataclass
class _Known:
    """What is known of a step's graph: nothing but that it was launched, then the graph, then that it is right."""

    graph: Captured | None = None
    trusted: bool = False


class Replays:
    """The captured graphs of one executable, within `room` bytes of device memory. One thread may use it at a time.

    `states` are what steps change in place. Those of `once` are moved on by every run, so that a second run of a step
    needs them as they were; writing the others twice changes nothing.
    """

    def __init__(self, on: Device, states: Mapping[str, torch.Tensor], once: Sequence[str], room: int) -> None:
        self._on, self._states, self._once, self._room = on, states, once, room
        self._known: OrderedDict[Key, _Known] = OrderedDict()
        self.refused: dict[Key, str] = {}

    @property
    def trusted(self) -> list[Key]:
        """The steps that are replayed."""
        return [key for key, known in self._known.items() if known.trusted]

    @property
    def nbytes(self) -> int:
        """What the graphs take."""
        return sum(known.graph.nbytes for known in self._known.values() if known.graph)

    def run(self, key: Key, calls: Sequence[Action], outputs: Mapping[str, torch.Tensor]) -> None:
        """Run a step, whose inputs are in place, by launches or by replay; `calls` always has the same effect.

        Raises StateLostError if a replay that was tried wrote other states than it should.
        """
        known = self._known.get(key)
        if known is None or key in self.refused:
            _launch(calls)
            if known is None:
                self._known[key] = _Known()
            return
        self._known.move_to_end(key)
        if known.graph is None:
            _launch(calls)
            self._capture(key, known, calls)
        elif known.trusted:
            known.graph.replay()
        else:
            self._compare(key, known, known.graph, calls, outputs)

    def drop(self, key: Key) -> None:
        """Forget a step, whose tensors are to go."""
        self._known.pop(key, None)
        self.refused.pop(key, None)

    def _capture(self, key: Key, known: _Known, calls: Sequence[Action]) -> None:
        try:
            known.graph = self._on.capture(calls)
        except DeviceError as error:
            self._refuse(key, known, str(error))
            return
        for old in list(self._known):
            if self.nbytes <= self._room or old == key:
                break
            del self._known[old]
        if self.nbytes > self._room:
            self._refuse(key, known, f"it takes {self.nbytes:,} bytes of the {self._room:,} there are for graphs")

    def _compare(
        self, key: Key, known: _Known, graph: Captured, calls: Sequence[Action], outputs: Mapping[str, torch.Tensor]
    ) -> None:
        before = {name: self._states[name].clone() for name in self._once}
        for tensor in outputs.values():
            _bits(tensor).fill_(-1)  # no number that a step gives: what is not written is seen
        graph.replay()
        replayed = {name: tensor.clone() for name, tensor in outputs.items()}
        states = self._digests()
        for name, tensor in before.items():
            self._states[name].copy_(tensor)
        _launch(calls)
        wrong = [n for n, tensor in outputs.items() if not torch.equal(_bits(tensor), _bits(replayed[n]))]
        written = [n for n, digest in self._digests().items() if digest != states[n]]
        if wrong or written:
            self._refuse(key, known, f"its replay gave another {', '.join(wrong + written)} than its launches")
        known.trusted = not (wrong or written)
        if lost := [name for name in written if name not in before]:
            what = f"a replay that was tried on {self._on}, and is refused, wrote into {', '.join(lost)}"
            raise StateLostError(what, remedy="run what used these states again; the same step is launched from now on")

    def _digests(self) -> dict[str, int]:
        """A number for what each state holds: the sum of its words."""
        return {name: int(_bits(state).sum(dtype=torch.int64)) for name, state in self._states.items()}

    def _refuse(self, key: Key, known: _Known, reason: str) -> None:
        known.graph, self.refused[key] = None, reason
        warnings.warn(f"a step of sizes {key} on {self._on} is not replayed: {reason}", RuntimeWarning, stacklevel=5)


def _launch(calls: Sequence[Action]) -> None:
    for call in calls:
        call()


def _bits(tensor: Any) -> torch.Tensor:
    """A dense tensor's elements as integers of their own size."""
    sizes = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits: torch.Tensor = tensor.view(sizes[tensor.element_size()])
    return bits
