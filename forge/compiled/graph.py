"""A compiled graph: its plan and kernels to look at, and how to run it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forge.compiled.source import TensorSource
from forge.graph.ir import Graph
from forge.graph.passes import optimize
from forge.lower.device import Device
from forge.lower.devices import find
from forge.lower.pipeline import options
from forge.lower.plan import Plan
from forge.target import DeviceTarget
from forge.tune.store import TuningStore

if TYPE_CHECKING:
    from forge.lower.executable import Executable


class CompiledGraph:
    """A graph compiled for a target: `graph` after the passes, `plan`, and `run`.

    Weights are loaded and memory is allocated once, by `load` or the first `run`. One thread may run it at a time. `on`
    is the device, by name or itself (`forge.lower.devices`).
    """

    def __init__(
        self,
        graph: Graph,
        on: str | DeviceTarget | Device,
        source: TensorSource | None = None,
        *,
        activations: str = "float",
        plain: bool = False,
        store: TuningStore | None = None,
    ) -> None:
        self.on = find(on)
        self.target = self.on.target
        self.plan = Plan(optimize(graph, options(activations)), self.target, store or TuningStore(), plain)
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
        from forge.lower.loading import load_weights

        weights = load_weights(self.plan.weights, self._source, self.on.torch_device)
        return Executable(self.plan, weights, self.on)
