"""A graph compiled for a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forge.compiled.model import host_of
from forge.device import device_of
from forge.errors import GraphError
from forge.graph.ir import Graph
from forge.graph.passes import Options, optimize
from forge.kernels import load as load_ops
from forge.lower.plan import Plan
from forge.target import DeviceTarget
from forge.tune.store import TuningStore

if TYPE_CHECKING:
    from forge.lower.executable import Executable


class CompiledGraph:
    """A graph compiled for a target: plan and kernels to look at, and `run`.

    `weights` maps the names of weight leaves to tensors or `Packed` tensors in the layouts that `plan.weights` names.
    With `emulate` its AMD code is executed on the CPU, where its tensors then are.
    """

    def __init__(
        self, graph: Graph, target: DeviceTarget, store: TuningStore | None = None, *, emulate: bool = False
    ) -> None:
        self.target, self.emulate = target, emulate
        self.plan = Plan(optimize(graph, Options(load_ops())), target, store or TuningStore())
        self.graph = self.plan.graph

    def load(self, weights: Mapping[str, Any] | None = None) -> Executable:
        """An executable with memory of its own. Raises GraphError for a weight that is not given."""
        from forge.lower.executable import Executable

        given = weights or {}
        missing = [leaf.name for leaf in self.plan.weights if leaf.name not in given]
        if missing:
            raise GraphError(f"weights are not given: {', '.join(missing)}", where=self.graph.name)
        placed = {leaf: given[leaf.name] for leaf in self.plan.weights}
        if not self.emulate:
            return Executable(self.plan, placed, device_of(self.target))
        from forge.amdgcn.emulate import prepare

        return Executable(
            self.plan, placed, device_of(host_of(self.target, True)), lambda step: prepare(step, self.target)
        )
