"""What a launch of a step's code is and does, from its code object and a few of its programs, emulated on zeros.

A whole launch of a large model would take minutes. Its programs along the grid's first axis do alike, so some of them
are run, and the counts are scaled to all; the other axes, as the parts of attention's keys, are run whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch

from forge.amdgcn import bridge
from forge.amdgcn.counters import Counters, kind
from forge.amdgcn.emulate import Ran
from forge.amdgcn.machine.dispatch import BATCH_LANES
from forge.bench.cards import units_of
from forge.bench.lone_wave import slots
from forge.errors import CompileError
from forge.graph.leaves import Leaf
from forge.graph.types import TensorType
from forge.lower.launch import Launch
from forge.lower.offline import CodeObject, compile_launch
from forge.lower.schedule import Place
from forge.lower.values import empty
from forge.lower.weights import Storage
from forge.quant import Packed, format_of
from forge.quant.tensors import table_of
from forge.target import DeviceTarget


@dataclass(frozen=True)
class Sliced:
    """`programs` of a launch, `emulated` of them run. `counters` and `lanes` are of those that ran: `lanes` are issue
    slots of the vector ALU, each as often as the wave has lanes. `trace` is what the first wave ran, in order."""

    code: CodeObject
    programs: int
    emulated: int
    counters: Counters
    lanes: int
    trace: tuple[Ran, ...]

    @property
    def scale(self) -> float:
        """How often the whole launch does what was counted."""
        return self.programs / self.emulated

    def waves(self, target: DeviceTarget) -> int:
        """Waves of a program."""
        return self.code.threads // target.wave

    def resident(self, target: DeviceTarget) -> int:
        """Programs that a compute unit holds at a time: by registers, as LLVM says, by LDS, and by their number."""
        units = units_of(target)
        most = occupancy(self.code) * units.simds // self.waves(target)
        if self.waves(target) > 1:
            most = min(most, units.groups)
        if self.code.lds:
            most = min(most, units.lds // self.code.lds)
        return max(1, most)


def sliced(launch: Launch, target: DeviceTarget) -> Sliced:
    """Compile a launch for an AMD target, and run a slice of it on its arguments."""
    code = compile_launch(launch, target)
    first, *rest = launch.grid
    few = max(1, min(first, BATCH_LANES // (code.threads * prod(rest))))
    part = replace(launch, grid=(few, rest[0], rest[1]))
    trace: list[Ran] = []
    done = bridge.run(code, part, count=True, trace=trace)
    assert done.counters is not None
    ran = ((step.executed, step.instruction.name) for step in done.steps.values())
    lanes = sum(n * slots(name) * target.wave for n, name in ran if n and kind(name) in ("valu", "dual"))
    return Sliced(code, prod(launch.grid), prod(part.grid), done.counters, lanes, tuple(trace))


def occupancy(code: CodeObject) -> int:
    """Waves that a SIMD holds by the code's registers, from LLVM's listing. Raises CompileError where it has none."""
    found = re.search(r"^; Occupancy: (\d+)", code.assembly, re.M)
    if found is None:
        raise CompileError("the listing does not say its occupancy", where=f"{code.name} for {code.arch}")
    return int(found[1])


class Zeros:
    """A memory on the CPU for a schedule: `inputs` as given, and zeros. Weights and states of one type share theirs, as
    what is computed is of no interest. Pages of zeros that nothing writes take no memory."""

    def __init__(self, inputs: Mapping[str, torch.Tensor], weights: Mapping[Leaf | None, Storage]) -> None:
        self._inputs, self._weights = inputs, weights
        self._shared: dict[tuple[str, TensorType], Any] = {}

    def __call__(self, place: Place) -> Any:
        if place.room == "input":
            assert place.leaf is not None
            return self._inputs[place.leaf.name]
        if place.room not in ("weight", "state"):
            return _zeros(empty(place.type, "meta"))
        key = (place.room, place.type)
        if key not in self._shared:
            like = self._weights[place.leaf].load_meta() if place.room == "weight" else empty(place.type, "meta")
            self._shared[key] = _zeros(like)
        return self._shared[key]

    def streamed(self, address: int) -> bool:
        """Whether a weight or a state lies at an address: what no cache holds from one step to the next."""
        planes = (p for t in self._shared.values() for p in (t.planes.values() if isinstance(t, Packed) else (t,)))
        return any(p.data_ptr() <= address < p.data_ptr() + p.numel() * p.element_size() for p in planes)


def _zeros(like: Any) -> Any:
    """Zeros in the shape of a tensor, or of the planes of a `Packed` one, on the meta device."""
    if isinstance(like, Packed):
        table = table_of(format_of(like.dtype), "cpu")
        return replace(like, planes={name: _zeros(plane) for name, plane in like.planes.items()}, table=table)
    raw = torch.from_numpy(np.zeros(max(1, like.numel() * like.element_size()), np.uint8))
    return raw[: like.numel() * like.element_size()].view(like.dtype).view(like.shape)
