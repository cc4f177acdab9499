"""A compiled graph: its plan and kernels to look at, and how to run it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forge.compiled.model import host_of
from forge.compiled.source import TensorSource
from forge.device import device_of
from forge.graph.ir import Graph
from forge.graph.passes import optimize
from forge.lower.pipeline import options
from forge.lower.plan import Plan
from forge.target import DeviceTarget
from forge.tune.store import TuningStore

if TYPE_CHECKING:
    from forge.lower.executable import Executable


class CompiledGraph:
    """A graph compiled for a target: `graph` after the passes, `plan`, and `run`.

    Weights are loaded and memory is allocated once, by `load` or the first `run`. One thread may run it at a time. With
    `emulate` its AMD code is executed on the CPU, where its tensors then are.
    """

    def __init__(
        self,
        graph: Graph,
        target: DeviceTarget,
        source: TensorSource | None = None,
        *,
        activations: str = "float",
        emulate: bool = False,
        store: TuningStore | None = None,
    ) -> None:
        self.target, self.emulate = target, emulate
        self.plan = Plan(optimize(graph, options(activations)), target, store or TuningStore())
        self.graph = self.plan.graph
        self._source = source or TensorSource({})
        self._executable: Executable | None = None
        self._lock = threading.Lock()

    def load(self) -> Executable:
        """The executable, made on first use. Raises GraphError for a weight that is not given."""
        with self._lock:
            if self._executable is None:
                self._executable = self._load()
            return self._executable

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Outputs by name, valid until the next call. `inputs` are arrays or CPU tensors; see `Executable.run`."""
        return self.load().run(inputs)

    def _load(self) -> Executable:
        from forge.lower.executable import Executable
        from forge.lower.weights import load_weights

        device = device_of(host_of(self.target, self.emulate))
        weights = load_weights(self.plan.weights, self._source, device)
        if not self.emulate:
            return Executable(self.plan, weights, device)
        from forge.amdgcn.emulate import prepare

        return Executable(self.plan, weights, device, lambda task: prepare(task, self.target))
