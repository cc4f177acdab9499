"""Configurations of a kernel measured on one call: each checked against the oracle once, then timed.

    for row in sweep(kernel, case, find("auto"), around(kernel, call, shipped)): print(row)

Operands rotate, so that no cache holds a weight when it comes round again. Measuring needs a schedule, a device and an
oracle, which stand above `forge.tune`: that knows tuning as data alone. So this is in `bench`, and writes no entry.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forge.bench.ops import worth_timing
from forge.bench.roofline import Rate
from forge.bench.timing import REPETITIONS, Sample, time_graph, time_host
from forge.errors import ForgeError, NumericsError
from forge.graph.op import Call, Case, Cost, Kernel, Op
from forge.graph.types import TensorType, dtype
from forge.kernels import fills
from forge.lower import schedule
from forge.lower.device import Device
from forge.lower.select import Selection, call_of
from forge.lower.values import empty, torch_dtype
from forge.quant import pack, quantize, random_blocks
from forge.tune.store import Choice, TuningStore
from forge.verify import build, compare, oracle

if TYPE_CHECKING:
    import torch

Config = Mapping[str, Any]
Operands = Sequence[Any]

ROTATED = 600 << 20  # bytes that one pass goes through: several times the largest cache
MOST_COPIES = 256


@dataclass(frozen=True)
class Row:
    """A configuration on a call. `sample` is of one call, `rate` its median beside the device's; None if it failed.

    `origin` is where the store has the configuration from, for the one that it gives the call, else "". `error` is the
    largest relative error against the oracle; `failure` says why a configuration was rejected.
    """

    kernel: Kernel
    call: Call
    config: Config
    origin: str
    error: float = 0.0
    sample: Sample | None = None
    rate: Rate | None = None
    failure: str = ""

    @property
    def seconds(self) -> float:
        """The median of a call; infinite for a configuration that failed."""
        return self.sample.median if self.sample else float("inf")

    def json(self) -> dict[str, Any]:
        """What a tuning entry's evidence is made from."""
        types = [str(t) for t in self.call.types if t is not None]
        row = {"kernel": self.kernel.name, "types": types, "config": dict(self.config), "origin": self.origin}
        if self.sample is None or self.rate is None:
            return row | {"failure": self.failure}
        return row | {"error": self.error, "spread": self.sample.spread, **self.rate.json()}

    def __str__(self) -> str:
        types = " ".join(str(t) for t in self.call.types if t is not None and t.rank > 1)
        config = " ".join(f"{k}={v}" for k, v in self.config.items()) + (f" ({self.origin})" if self.origin else "")
        if self.sample is None or self.rate is None:
            return f"{self.kernel.name:18} {types:36} {config}: {self.failure}"
        memory = self.rate.bound == "memory"
        work = f"{self.rate.gbps:8,.0f} GB/s  " if memory else f"{self.rate.tflops:8,.1f} TFLOP/s"
        time = f"{self.seconds * 1e6:10,.1f} us ±{self.sample.spread:4.0%}"
        return f"{self.kernel.name:18} {types:36} {time} {work} {self.rate.roofline:6.1%}  {config}"


def sweep(
    kernel: Kernel,
    case: Case,
    device: Device,
    configs: Iterable[Config] | None = None,
    *,
    cost: Cost | None = None,
    store: TuningStore | None = None,
    rotated: int = ROTATED,
    repetitions: int = REPETITIONS,
) -> Iterator[Row]:
    """A row for each of `configs`, by default every point of the kernel's space that is valid, on the types of `case`.

    Operands are random, the same ones each time, or those of `case.make`; as many sets of them are made as a pass over
    all needs to go through `rotated` bytes. The oracle is asked once. A configuration whose results are wrong, or that
    does not compile or launch, is a row that says so. `cost` is the work that the rate is of, if it is not the op's.
    """
    store = store or TuningStore()
    call = call_of(kernel.op, case.types, kernel.op.bind(case.types, case.attrs)[1], device.target)
    work = cost or kernel.op.cost(*call.types, **call.attrs)
    with device.active():
        copies = max(1, min(MOST_COPIES, -(-rotated // max(work.bytes, 1))))
        sets = _sets(kernel, case, call, device.torch_device, copies)
        expected = oracle(kernel.op, _cloned(sets[0]), call.attrs)
        shipped = store.get(kernel, call)
        for config in kernel.space.points(call) if configs is None else configs:
            origin = shipped.origin if config == shipped.config else ""
            try:
                error = _verified(kernel, call, config, sets[0], expected, device)
                sample = _timed(kernel, call, config, sets, device, store, repetitions)
            except ForgeError as failure:
                kind = "wrong" if isinstance(failure, NumericsError) else type(failure).__name__
                yield Row(kernel, call, config, origin, failure=f"{kind}: {failure.what.splitlines()[0]}")
                continue
            yield Row(kernel, call, config, origin, error, sample, Rate(sample.median, work, device))


def around(kernel: Kernel, call: Call, config: Config) -> Iterator[Config]:
    """`config`, then the valid points of the kernel's space that differ from it in one choice."""
    yield config
    for name, values in kernel.space.choices.items():
        for value in values:
            point = {**config, name: value}
            if value != config[name] and kernel.space.valid(point, call):
                yield point


def neighbours(ops: Mapping[str, Op], device: Device, store: TuningStore | None = None) -> Iterator[Row]:
    """Rows of each case worth timing: the configuration that the store gives it, and those `around` it."""
    store = store or TuningStore()
    for op in ops.values():
        for case in () if op.view else worth_timing(op):
            call = call_of(op, case.types, op.bind(case.types, case.attrs)[1], device.target)
            if (found := store.choose(call)) is not None:
                kernel, choice = found
                yield from sweep(kernel, case, device, around(kernel, call, choice.config), store=store)


def best(rows: Iterable[Row]) -> Row | None:
    """The quickest of the rows that did not fail."""
    return min((r for r in rows if r.sample), key=lambda r: r.seconds, default=None)


def _verified(
    kernel: Kernel, call: Call, config: Config, operands: Operands, expected: Sequence[torch.Tensor], device: Device
) -> float:
    """The largest relative error of the configuration's results. Raises NumericsError where it is too large."""
    outputs, tasks, memory = build(kernel, call, operands, str(device.torch_device), config)
    for task in tasks:
        device.prepare(task)()
    device.synchronize()
    memory.check(f"{kernel.id} on {call.describe()}")
    pairs = enumerate(zip(outputs, expected, strict=True))
    fused = kernel.op.equals is not None
    return max(compare(got, ref, f"result {i}", fused=fused) for i, (got, ref) in pairs)


def _timed(
    kernel: Kernel,
    call: Call,
    config: Config,
    sets: Sequence[Operands],
    device: Device,
    store: TuningStore,
    repetitions: int,
) -> Sample:
    """Seconds of one call. Results and scratch are the same memory for every set of operands."""
    forced = Selection(call, kernel, Choice(config, "sweep"))
    made = schedule.of_call(call.op, call.types, call.attrs, call.target, store, forced)
    room: dict[Any, Any] = {}

    def memory(operands: Mapping[str, Any]) -> Callable[[schedule.Place], Any]:
        def at(place: schedule.Place) -> Any:
            if place.leaf:
                return operands[place.leaf.name]
            key = (place.room, place.offset, place.type)
            if key not in room:
                room[key] = empty(place.type, device.torch_device)
            return room[key]

        return at

    tasks = [
        task
        for values in sets
        for _, task in schedule.build(made, memory(dict(zip(call.op.operands, values, strict=True)))).tasks
    ]
    calls = [device.prepare(task) for task in tasks]
    if device.torch_device.type == "cuda":
        sample = time_graph(calls, device, repetitions)
    else:
        sample = time_host(lambda: [run() for run in calls], repetitions)
    return Sample(tuple(s / len(sets) for s in sample.seconds))


def _sets(kernel: Kernel, case: Case, call: Call, device: torch.device, copies: int) -> list[Operands]:
    """Operands in memory of their own, in the layouts that the kernel takes best."""
    import torch

    seed = zlib.crc32(f"{kernel.op.name} {case.name}".encode())
    host, there = (torch.Generator(d).manual_seed(seed) for d in ("cpu", device))
    layouts = kernel.layouts(call) if kernel.layouts else {}

    def operand(name: str, type: TensorType | None) -> Any:
        if type is None:
            return None
        if name in case.fills or not (type.dtype.floating or type.dtype.quantized):
            return case.fills.get(name, fills.normal)(host, type)
        return _random(there, type, layouts.get(name, ("",))[0])

    def make() -> Operands:
        if case.make is not None:
            made = case.make(host)
        else:
            made = [operand(n, t) for n, t in zip(kernel.op.operands, call.types, strict=True)]
        return [None if v is None else v.to(device) for v in made]

    return [make() for _ in range(copies)]


def _random(generator: torch.Generator, type: TensorType, layout: str) -> Any:
    """Random values on the generator's device; a quantized weight's are small, as a model's are."""
    import torch

    dense = layout.removeprefix("dense:") if layout.startswith("dense:") else ""
    if type.dtype.quantized and not type.dtype.activation and not dense:
        return pack(type, random_blocks(type, generator, rms=0.02))
    values = torch.randn(type.concrete(), generator=generator, device=generator.device)
    if type.dtype.activation:
        return quantize(values, type.dtype)
    return values.to(torch_dtype(TensorType((), dtype(dense or type.dtype))))


def _cloned(operands: Operands) -> list[Any]:
    """Plain tensors cloned, as an op may write to one of them."""
    import torch

    return [v.clone() if isinstance(v, torch.Tensor) else v for v in operands]
