"""A plan made to run: memory, weights, and the tasks of each set of sizes with all their arguments in place.

`run` binds the sizes of its inputs on first use: kernels are selected, built and compiled, views of the arena are
made, and every launch is prepared down to its argument list. After that a step with the same sizes copies its inputs,
replays the prepared launches, and allocates nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from forge.errors import GraphError, MemoryPlanError
from forge.graph.ir import Node
from forge.graph.leaves import Leaf
from forge.graph.types import TensorType
from forge.lower.device import Device
from forge.lower.memory import align, stored_bytes
from forge.lower.plan import Plan
from forge.lower.schedule import Place, build
from forge.lower.sizes import Sizes
from forge.lower.values import activation_planes, constant_tensor, torch_dtype
from forge.quant.packed import Packed
from forge.torch_types import type_name

BINDINGS = 128  # sizes kept prepared at once; the one used longest ago goes first
INPUT_ALIGNMENT = 16  # bytes: kernels may assume that pointers are multiples of it

Progress = Callable[[int, int], None]  # (bindings made, bindings in all)


@dataclass(frozen=True)
class Binding:
    """Prepared tasks for one set of sizes, with the places of inputs and the tensors of outputs."""

    sizes: Sizes
    staging: Mapping[str, slice]
    length: int
    tasks: tuple[tuple[Node, Callable[[], Any]], ...]
    outputs: Mapping[str, Any]


class Executable:
    """Runs a plan on a device. One thread may call `run` at a time; outputs are valid until the next call.

    States live in `states` by name and are updated in place by each run.
    """

    def __init__(self, plan: Plan, weights: Mapping[Node, Any], on: Device) -> None:
        self.plan, self.on = plan, on
        device = self.device = on.torch_device
        self._arena = self._allocate(plan.arena, "activations")
        self._scratch = self._allocate(plan.scratch, "scratch")
        self.states = {n.name: self._zeros(n.types[0]) for n in plan.graph.leaves("state")}
        self._fixed: dict[Leaf | None, Any] = {leaf.leaf: tensor for leaf, tensor in weights.items()}
        self._fixed |= {n.leaf: constant_tensor(n, device) for n in plan.graph.leaves("constant")}
        self._fixed |= {n.leaf: self.states[n.name] for n in plan.graph.leaves("state")}
        self._inputs = {n.name: n for n in plan.graph.leaves("input")}
        most = sum(align(n.types[0].upper().nbytes) for n in self._inputs.values())
        with on.active():
            self._host = torch.zeros(most, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._host_numpy = self._host.numpy()
        self._staged = self._host if device.type == "cpu" else self._allocate(most, "inputs")
        self._copied = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._bindings: OrderedDict[tuple[int, ...], Binding] = OrderedDict()

    def run(self, inputs: Mapping[str, np.ndarray | torch.Tensor]) -> Mapping[str, Any]:
        """Outputs by name. `inputs` are arrays or CPU tensors whose shapes give the symbols their sizes.

        Raises GraphError for a missing input or shapes that do not fit the graph, DeviceError or MemoryPlanError if
        the device refuses.
        """
        binding = self.bind(self._sizes(inputs))
        if self._copied is not None:
            self._copied.synchronize()  # the last step's copy may still be reading the host buffer
        for name, place in binding.staging.items():
            self._host_numpy[place] = _bytes(inputs[name])
        with self.on.active():
            if self._copied is not None:
                self._staged[: binding.length].copy_(self._host[: binding.length], non_blocking=True)
                self._copied.record()
            for _, task in binding.tasks:
                task()
        return binding.outputs

    def bind(self, sizes: Sizes) -> Binding:
        """The prepared tasks for `sizes`, made on first use."""
        key = tuple(sizes[n] for n in sorted(sizes))
        found = self._bindings.get(key)
        if found is None:
            found = self._bindings[key] = self._prepare(sizes)
            if len(self._bindings) > max(BINDINGS, len(self.plan.sizes)):
                self._bindings.popitem(last=False)
        else:
            self._bindings.move_to_end(key)
        return found

    def prepare_all(self, progress: Progress | None = None) -> None:
        """Bind every size of the plan's list, so that none is compiled while serving; `progress(done, all)` after each.

        Of use where steps are padded to that list, on a GPU.
        """
        for done, sizes in enumerate(self.plan.sizes, 1):
            self.bind(sizes)
            if progress:
                progress(done, len(self.plan.sizes))

    def _sizes(self, inputs: Mapping[str, np.ndarray | torch.Tensor]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        if unknown := [str(name) for name in inputs if name not in self._inputs]:
            raise GraphError(
                f"the graph has no input {', '.join(unknown)}; it takes {', '.join(self._inputs) or 'none'}"
            )
        for name, node in self._inputs.items():
            if name not in inputs:
                raise GraphError(f"the input {name} : {node.types[0]} is not given")
            given, type = inputs[name], node.types[0]
            if not isinstance(given, (np.ndarray, torch.Tensor)):
                raise GraphError(f"the input {name} is {given!r:.80}; the graph takes an array of {type}")
            fits = given.ndim == type.rank and type_name(given.dtype) == type.dtype.name
            for have, want in zip(given.shape, type.shape, strict=False):
                if isinstance(want, int):
                    fits &= have == want
                else:
                    fits &= sizes.setdefault(want.name, have) == have and 1 <= have <= want.max
            if not fits:
                raise GraphError(f"the input {name} is {given.dtype}{list(given.shape)}; the graph takes {type}")
        return sizes

    def _prepare(self, sizes: Sizes) -> Binding:
        schedule = self.plan.schedule(sizes)
        rooms = {"arena": self._arena, "scratch": self._scratch}
        for room, nbytes in (("arena", schedule.arena), ("scratch", schedule.scratch)):
            if nbytes > rooms[room].numel():  # sizes that are not on the plan's list, which a CPU meets
                rooms[room] = self._allocate(nbytes, room)
        staging, length = {}, 0
        for name, leaf in self._inputs.items():
            nbytes = leaf.types[0].bind(sizes).nbytes
            staging[name] = slice(length, length + nbytes)
            length += -(-nbytes // INPUT_ALIGNMENT) * INPUT_ALIGNMENT

        def memory(place: Place) -> Any:
            if place.leaf is None:
                return _carve(rooms[place.room], place.offset, place.type)
            if place.room == "input":
                return _carve(self._staged, staging[place.leaf.name].start, place.type)
            return self._fixed[place.leaf]

        built = build(schedule, memory)
        tasks = tuple((node, self.on.prepare(task)) for node, task in built.tasks)
        return Binding(sizes, staging, length, tasks, built.outputs)

    def _allocate(self, nbytes: int, what: str) -> torch.Tensor:
        try:
            return torch.empty(max(nbytes, 1), dtype=torch.uint8, device=self.device)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            raise MemoryPlanError(
                f"{self.device} has no {nbytes:,} bytes for {what}: {error}", remedy="compile with smaller limits"
            ) from error

    def _zeros(self, type: TensorType) -> torch.Tensor:
        memory = self._allocate(type.nbytes, f"state {type}").zero_()
        return memory[: type.nbytes].view(torch_dtype(type)).view(type.concrete())


def _bytes(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """The bytes of an array, in one row."""
    if isinstance(array, torch.Tensor):
        return array.contiguous().view(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _carve(memory: torch.Tensor, offset: int, type: TensorType) -> Any:
    """A tensor of `type` at `offset` of `memory`, or the planes of quantized activations."""
    if declared := activation_planes(type):
        planes = {}
        for name, plane in declared.items():
            planes[name] = _carve(memory, offset, plane)
            offset += stored_bytes(plane)
        return Packed(type, planes)
    return memory[offset : offset + type.nbytes].view(torch_dtype(type)).view(type.concrete())
