"""A compiled model: its graph, plan and kernels to look at, and the step that the engine runs.

Memory is planned first and checked against the device before a weight is loaded; weights, pages and activations are
allocated on the first run, or by `load`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from forge.allocation import memory_told
from forge.compiled.budget import Budget
from forge.errors import MemoryPlanError, UsageError
from forge.graph.ir import Graph
from forge.graph.passes import optimize
from forge.language import interpreted
from forge.lower.device import Device
from forge.lower.devices import find
from forge.lower.offline import CodeObject, compile_launch, plan_launches
from forge.lower.padding import pad
from forge.lower.pipeline import options, uncollected
from forge.lower.plan import Plan
from forge.lower.sizes import Sizes
from forge.models import Model
from forge.models.builder import Precision
from forge.runtime.contract import KEPT, PADDING, Limits
from forge.runtime.runner import Pending
from forge.target import DeviceTarget
from forge.tune.store import TuningStore

if TYPE_CHECKING:
    import numpy as np
    import torch

    from forge.lower.ahead import Ahead
    from forge.lower.executable import Executable
    from forge.lower.weights import Progress, Source
    from forge.runtime.batch import Batch


class CompiledModel:
    """A model compiled for a target. Implements `forge.runtime.runner.Runner`.

    `act` is the element type of what kernels multiply, `kv` that of the KV pages, by default `act`.
    `graph` is the optimized graph, `plan` the plan, `limits` what it can hold; `config` are the hyperparameters, in the
    dataclass of the model's architecture. One thread may run it at a time; looking at graph, plan and kernels is safe
    from any. `on` is the device, by name or itself (`forge.lower.devices`).
    """

    def __init__(
        self,
        model: Model,
        source: Source,
        on: str | DeviceTarget | Device,
        *,
        act: str,
        activations: str,
        kv: str | None = None,
        context: int,
        max_tokens: int,
        max_seqs: int,
        max_logits: int,
        page_size: int,
        memory: int | None,
        plain: bool = False,
        store: TuningStore | None = None,
    ) -> None:
        self.model, self.config = model, model.config
        self.on = find(on)
        self.target, self.context_length = self.on.target, context
        self.source, self._store = source, store or TuningStore()
        self.plain = plain
        self._precision, self._options = Precision(act, kv or act), options(activations)
        self._executable: Executable | None = None
        self._ahead: Ahead | None = None
        self._lock = threading.RLock()  # reentrant: the handler of a signal may close what is being loaded
        self.turn = threading.Lock()
        per_seq = -(-context // page_size)
        one_page = Limits(max_tokens, max_seqs, max_logits, 1, page_size, per_seq)
        with uncollected():
            one = self._plan(one_page)
            self.limits = replace(one_page, num_pages=self._fit(one, per_seq, max_seqs, memory))
            self.plan = one.with_pages(self.num_pages)
        self.graph = self.plan.graph

    def built(self) -> Graph:
        """The graph before any pass."""
        return self.model.graph(self.limits, self._precision)

    def graph_after(self, name: str) -> Graph:
        """The graph after the pass `name` of the pipeline ("built" for none)."""
        return optimize(self.built(), self._options, name)

    def _plan(self, limits: Limits) -> Plan:
        graph = optimize(self.model.graph(limits, self._precision), self._options)
        return Plan(graph, self.target, self._store, self.plain)

    def _fit(self, one: Plan, per_seq: int, max_seqs: int, memory: int | None) -> int:
        """How many pages: one full context for every sequence, or as many as the memory left over holds."""
        page, slots = one.state_bytes("pages"), one.state_bytes("sequence")
        activations = one.arena + one.state_bytes("step")
        graphs = one.graphs if self.goes_ahead else 0
        self.budget = Budget(one.weight_bytes, 0, activations, one.scratch, self._free(memory), slots, graphs)
        left = self.budget.free - self.budget.total
        if left < per_seq * page:
            raise MemoryPlanError(
                f"{self.model.name} does not fit {self.target}: {self.budget}; one context of "
                f"{self.context_length} tokens needs {per_seq * page / 1e6:,.1f} MB of KV pages",
                remedy="a smaller context=, max_tokens= or max_seqs=, or a file of fewer bits a weight",
            )
        pages = min(left // page, per_seq * max_seqs) if page else per_seq * max_seqs
        self.budget = replace(self.budget, pages=pages * page)
        return pages

    def _free(self, memory: int | None) -> int:
        return self.on.free_memory() if memory is None else memory

    @property
    def vocab_size(self) -> int:
        return self.model.vocab

    @property
    def max_tokens(self) -> int:
        return self.limits.max_tokens

    @property
    def max_seqs(self) -> int:
        return self.limits.max_seqs

    @property
    def page_size(self) -> int:
        return self.limits.page_size

    @property
    def num_pages(self) -> int:
        return self.limits.num_pages

    @property
    def goes_ahead(self) -> bool:
        return self.on.captures and not self.plain

    @property
    def device(self) -> torch.device:
        return self.on.torch_device

    def load(self, progress: Progress | None = None) -> Executable:
        """Load weights and allocate memory, once; on a GPU other processes compile the first steps' kernels meanwhile.

        Raises DeviceError if the target is not the device at hand, MemoryPlanError where memory runs out.
        """
        from forge.lower.ahead import Ahead
        from forge.lower.executable import Executable
        from forge.lower.loading import load_weights

        with self._lock:
            if self._executable is None:
                with uncollected():
                    device, storages = self.device, self.plan.weights
                self._ahead = Ahead(self.plan, self.on) if self._compiles else None
                try:
                    with memory_told(f"loading {self.model.name}"):
                        weights = load_weights(storages, self.source, device, progress)
                        if self._ahead is not None:
                            self._ahead.collected()
                        self._executable = Executable(self.plan, weights, self.on, self._ahead)
                except BaseException:
                    self._drop_ahead()
                    raise
            return self._executable

    @property
    def _compiles(self) -> bool:
        """Whether steps need kernels that Triton compiles for a device at hand."""
        return self.on.captures and self.target.kind == "gpu" and not interpreted()

    def _drop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def release(self) -> None:
        """Give back what `load` took, between steps: weights, states and activations. The next run loads anew."""
        with self._lock:
            if self._executable is None:
                return
            self._executable = None
            self._drop_ahead()
            if self.target.kind == "gpu":
                import torch

                torch.cuda.empty_cache()  # for other processes

    def launch(self, batch: Batch) -> Pending:
        """Queue a step: logits of the batch's rows and their likeliest ids. See `Runner`."""
        import numpy as np

        inputs = {name: array for name, array in batch.inputs.items() if name in self._first_axes}
        wanted = len(batch.logit_rows)
        if not wanted:  # the graph computes at least one row
            inputs["logit_rows"] = np.zeros(1, np.int32)
        if self.target.kind == "gpu":
            inputs = pad(inputs, self._first_axes, self.plan.bounds, PADDING)
        outputs = self.load().run(inputs)
        return Pending(outputs["logits"][:wanted], outputs["ids"][:wanted])

    def keep(self, ids: torch.Tensor) -> None:
        """Keep ids, of which a step gives one a sequence at most, for the next step. See `Runner`."""
        self.load().states[KEPT][: len(ids)].copy_(ids)

    def logits(self, ids: Sequence[int] | np.ndarray | torch.Tensor, chunk: int | None = None) -> torch.Tensor:
        """Logits f32[T,V], on the host, after each of the T `ids` of one sequence.

        They are computed `chunk` at a time; by default as many as a step gives logits of (`max_logits`). May be called
        beside an engine that runs the model, in any thread: it takes turns with the engine's steps, and the pages and
        the slot that it needs are kept on the host meanwhile, and put back.

        Raises UsageError for no ids, ids out of range, more than the context holds, or a chunk that no step gives.
        """
        from forge.compiled.logits import sequence_logits

        with memory_told(f"logits of {self.model.name}"):
            return sequence_logits(self, ids, chunk)

    @cached_property
    def _first_axes(self) -> dict[str, str]:
        """The symbol of each input's first axis."""
        return {n.name: str(n.types[0].shape[0]) for n in self.graph.leaves("input")}

    @cached_property
    def num_slots(self) -> int:
        """Slots of state of which each sequence has one; 0 if the model has no such state."""
        return self.max_seqs if any(self.graph.states("sequence")) else 0

    def copy_pages(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy keys and values of all layers from page to page; no page is both source and destination."""
        from forge.runtime.transfer import upload

        source, to = upload(copies, self.device).T
        for leaf in self.graph.states("pages"):
            state = self.load().states[leaf.name]
            state[:, to] = state[:, source]

    def change_slots(self, copies: Sequence[tuple[int, int]], cleared: Sequence[int]) -> None:
        """Copy the sequences' own state from slot to slot, all at once, and set that of others to zero."""
        from forge.runtime.transfer import upload

        source, to = upload(copies, self.device).T if copies else ((), ())
        zeroed = upload(cleared, self.device) if cleared else None
        for leaf in self.graph.states("sequence"):
            state = self.load().states[leaf.name]
            if copies:
                state[to] = state[source]
            if zeroed is not None:
                state.index_fill_(0, zeroed, 0)

    def code_objects(self, sizes: Sizes | None = None) -> Iterator[tuple[str, CodeObject]]:
        """(op, code object) for each distinct launch at `sizes`, compiled for an AMD target that need not be here."""
        if self.target.backend != "hip":
            raise UsageError(f"code objects are AMD's; the target is {self.target}")
        seen: set[bytes] = set()
        for node, launch in plan_launches(self.plan, sizes or self.plan.sizes[0]):
            code = compile_launch(launch, self.target)
            if code.binary not in seen:
                seen.add(code.binary)
                yield str(node.op and node.op.name), code
