"""A plan made to run: memory, weights, and the tasks of each set of sizes with all their arguments in place.

`run` binds the sizes of its inputs on first use: kernels are selected, built and compiled, views of the arena are
made, and every launch is prepared down to its argument list. After that a step with the same sizes copies its inputs,
launches what was prepared, or replays it as one graph (`forge.lower.replay`), and allocates nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from forge.errors import GraphError, MemoryPlanError
from forge.graph.ir import Node
from forge.graph.leaves import Leaf
from forge.graph.types import TensorType
from forge.lower.ahead import Ahead
from forge.lower.device import Action, Device
from forge.lower.memory import stored_bytes
from forge.lower.plan import Plan
from forge.lower.replay import Replays
from forge.lower.schedule import Place, build
from forge.lower.sizes import Sizes, decoding
from forge.lower.staging import Staging
from forge.lower.values import activation_planes, constant_tensor, torch_dtype
from forge.process import Home
from forge.quant.packed import Packed
from forge.torch_types import type_name

BINDINGS = 128  # sizes kept prepared at once; the one used longest ago goes first

_element = cache(type_name)  # asked of every input at every step
Progress = Callable[[int, int], None]  # (bindings made, bindings in all)


@dataclass(frozen=True)
class Binding:
    """Prepared tasks for one set of sizes, with the places of inputs and the tensors of outputs.

    `made` are those of the outputs that the step itself makes: no input, no state.
    """

    sizes: Sizes
    staging: Mapping[str, slice]
    length: int
    tasks: tuple[tuple[Node, Action], ...]
    outputs: Mapping[str, Any]
    made: Mapping[str, torch.Tensor]

    @cached_property
    def calls(self) -> tuple[Action, ...]:
        return tuple(call for _, call in self.tasks)

    @property
    def key(self) -> tuple[int, ...]:
        return key_of(self.sizes)


class Executable:
    """Runs a plan on a device. One thread may call `run` at a time; outputs are valid until the next call.

    States live in `states` by name and are updated in place by each run. `ahead` is what compiles kernels meanwhile.
    """

    def __init__(self, plan: Plan, weights: Mapping[Node, Any], on: Device, ahead: Ahead | None = None) -> None:
        self.plan, self.on, self._ahead = plan, on, ahead
        self._home = Home()
        device = self.device = on.torch_device
        self._arena = self._allocate(plan.arena, "activations")
        self._scratch = self._allocate(plan.scratch, "scratch")
        self.states = {n.name: self._zeros(n.types[0]) for n in plan.graph.leaves("state")}
        self._fixed: dict[Leaf | None, Any] = {leaf.leaf: tensor for leaf, tensor in weights.items()}
        self._fixed |= {n.leaf: constant_tensor(n, device) for n in plan.graph.leaves("constant")}
        self._fixed |= {n.leaf: self.states[n.name] for n in plan.graph.leaves("state")}
        self._inputs = {n.name: n for n in plan.graph.leaves("input")}
        self._staging = Staging(self._inputs.values(), on)
        self._bindings: OrderedDict[tuple[int, ...], Binding] = OrderedDict()
        once = [n.name for n in plan.graph.states("sequence")]
        self.replays = Replays(on, self.states, once, plan.graphs) if on.captures and not plan.plain else None

    def run(self, inputs: Mapping[str, np.ndarray | torch.Tensor]) -> Mapping[str, Any]:
        """Outputs by name. `inputs` are arrays or CPU tensors whose shapes give the symbols their sizes.

        Raises GraphError for a missing input or shapes that do not fit the graph, DeviceError or MemoryPlanError if
        the device refuses, UsageError in a process that was forked after the model was loaded.
        """
        self._home.check("the model")
        binding = self.bind(self._sizes(inputs))
        with self.on.active():
            self._staging.send(inputs, binding.staging, binding.length)
            if self.replays is not None and decoding(binding.sizes):
                self.replays.run(binding.key, binding.calls, binding.made)
            else:
                for call in binding.calls:
                    call()
        return binding.outputs

    def bind(self, sizes: Sizes) -> Binding:
        """The prepared tasks for `sizes`, made on first use."""
        key = key_of(sizes)
        found = self._bindings.get(key)
        if found is None:
            found = self._bindings[key] = self._prepare(sizes)
            if len(self._bindings) > max(BINDINGS, len(self.plan.sizes)):
                old, _ = self._bindings.popitem(last=False)
                if self.replays is not None:
                    self.replays.drop(old)
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
            fits = given.ndim == type.rank and _element(given.dtype) == type.dtype.name
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
        # Sizes off the plan's list, which a CPU meets, may need more. Bindings made before keep the old room.
        if schedule.arena > self._arena.numel():
            self._arena = self._allocate(schedule.arena, "activations")
        if schedule.scratch > self._scratch.numel():
            self._scratch = self._allocate(schedule.scratch, "scratch")
        rooms = {"arena": self._arena, "scratch": self._scratch}
        staging, length = self._staging.places(sizes)

        def memory(place: Place) -> Any:
            if place.leaf is None:
                return _carve(rooms[place.room], place.offset, place.type)
            if place.room == "input":
                return _carve(self._staging.device, staging[place.leaf.name].start, place.type)
            return self._fixed[place.leaf]

        built = build(schedule, memory)
        with nullcontext() if self._ahead is None else self._ahead.asked():
            tasks = tuple((node, self.on.prepare(task)) for node, task in built.tasks)
        own = rooms["arena"].untyped_storage().data_ptr()
        made = {
            f"{name}.{plane}" if plane else name: tensor
            for name, output in built.outputs.items()
            for plane, tensor in (output.planes if isinstance(output, Packed) else {"": output}).items()
            if tensor.untyped_storage().data_ptr() == own
        }
        return Binding(sizes, staging, length, tasks, built.outputs, made)

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


def key_of(sizes: Sizes) -> tuple[int, ...]:
    """Sizes as a key among those of one graph."""
    return tuple(sizes[n] for n in sorted(sizes))


def _carve(memory: torch.Tensor, offset: int, type: TensorType) -> Any:
    """A tensor of `type` at `offset` of `memory`, or the planes of quantized activations."""
    if declared := activation_planes(type):
        planes = {}
        for name, plane in declared.items():
            planes[name] = _carve(memory, offset, plane)
            offset += stored_bytes(plane)
        return Packed(type, planes)
    return memory[offset : offset + type.nbytes].view(torch_dtype(type)).view(type.concrete())
