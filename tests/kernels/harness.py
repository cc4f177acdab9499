"""Everything the generated kernel tests share: operands of a case, and the comparison with the oracle."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import cache

import torch

from forge.graph.op import Call, Case, Kernel, Op
from forge.graph.types import DTYPES, TensorType
from forge.kernels import fills, load
from forge.lower.operands import activation_planes, empty, torch_dtype, type_of
from forge.lower.select import Selection, call_of
from forge.quant import dense, pack, random_blocks
from forge.quant.packed import Packed
from forge.target import TARGETS, DeviceTarget
from forge.tune.store import TuningStore

OPS = load()
STORE = TuningStore()
INTERPRETER = replace(TARGETS["gfx1100"], arch="interpreter", backend="interpreter")

# Bounds on |got - ref| / max(|ref|, rms(ref)) by the result's type: the maximum and the root mean square.
BOUNDS = {"f32": (2e-5, 2e-6), "f16": (4e-3, 6e-4), "bf16": (3e-2, 5e-3)}


def operands(op: Op, case: Case, device: str = "cpu") -> list:
    """Seeded operands of a case; block-typed ones come as Packed planes on a GPU and as dense f32 on the CPU."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{op.name} {case.name}".encode()))
    if case.make is not None:
        values = list(case.make(generator))
    else:
        values = [
            None if t is None else _fill(generator, t, case.fills.get(n, fills.normal))
            for n, t in zip(op.operands, case.types, strict=True)
        ]
    if case.strided:
        values = [_apart(v) for v in values]
    return [None if v is None else v.to(device) for v in values]


def _fill(generator, type: TensorType, fill):
    if type.dtype.activation:
        return quantized_activation(fill(generator, TensorType(type.shape, DTYPES["f32"])), type.dtype.name)
    if type.dtype.quantized:
        return pack(type, random_blocks(type, generator))
    return fill(generator, type)


def quantized_activation(x: torch.Tensor, name: str) -> Packed:
    """x[T,D] as a8 or a16, by the statement of the formats: d = max|x| / 127; in a8 q = round(x / d) and s = d * sum q.

    In a16 h = round(256 (x / d - q)) too, kept within an int8, and s = d * sum (q + h / 256).
    """
    rows, width = x.shape
    groups = x.float().reshape(rows, width // 32, 32)
    d = groups.abs().amax(-1) / 127
    scaled = torch.where(d[..., None] > 0, groups / d[..., None], 0)
    q = scaled.round().clamp(-127, 127)
    h = (256 * (scaled - q)).round().clamp(-128, 127)
    codes = {"q": q, "h": h} if name == "a16" else {"q": q}
    planes = {n: c.to(torch.int8).reshape(rows, width).view(torch.int32) for n, c in codes.items()}
    total = (q + h / 256 if name == "a16" else q).sum(-1)
    return Packed(TensorType((rows, width), DTYPES[name]), planes | {"d": d, "s": d * total})


def _apart(value):
    """The same values with rows further apart than they are wide."""
    if not isinstance(value, torch.Tensor) or value.dim() != 2:
        return value
    wide = torch.full((value.shape[0], value.shape[1] + 64), 77, dtype=value.dtype, device=value.device)
    wide[:, : value.shape[1]] = value
    return wide[:, : value.shape[1]]


def oracle(op: Op, values: list, attrs) -> tuple:
    """The op's reference on dense operands."""
    out = op.reference(*(dense(v) if isinstance(v, Packed) else v for v in values), **attrs)
    return out if isinstance(out, tuple) else (out,)


def build(kernel: Kernel, call: Call, values: list, device: str, config=None) -> tuple[tuple, list, Guarded]:
    """(outputs, steps, the memory of results and scratch) of a kernel."""
    choice = STORE.get(kernel, call)
    selection = Selection(call, kernel, replace(choice, config=config) if config else choice)
    op = call.op
    written = values[op.operands.index(op.writes)] if op.writes else None
    fresh = call.results[1:] if op.writes else call.results
    memory = Guarded(device)
    outputs = tuple(memory.empty(t) for t in fresh)
    work = tuple(memory.empty(t) for t in selection.workspace)
    steps = selection.build(outputs, tuple(values), work)
    return (outputs if written is None else (written, *outputs)), steps, memory


GUARD = 64  # elements before and after each result, which no kernel may touch


class Guarded:
    """Memory for results: poisoned, so that what is not written is seen, between guards, so that too much is too."""

    def __init__(self, device: str) -> None:
        self.device, self.guards = device, []

    def empty(self, type: TensorType):
        if planes := activation_planes(type):
            return Packed(type, {name: self.empty(plane) for name, plane in planes.items()})
        if self.device == "meta":
            return empty(type, "meta")
        dt = torch_dtype(type)
        memory = torch.full((type.numel + 2 * GUARD,), float("nan") if dt.is_floating_point else 101, dtype=dt)
        memory = memory.to(self.device)
        self.guards += [memory[:GUARD], memory[GUARD + type.numel :]]
        return memory[GUARD : GUARD + type.numel].view(type.concrete())

    def check(self, label: str) -> None:
        for guard in self.guards:
            untouched = guard.isnan() if guard.dtype.is_floating_point else guard == torch.full_like(guard, 101)
            assert bool(untouched.all()), f"{label}: writes outside its results"


def assert_close(got, ref: torch.Tensor, label: str) -> float:
    """Relative error within the bounds of the result's type, NaN and inf masks equal; returns the largest error."""
    result = got
    if isinstance(got, Packed):
        got, bounds = dense(got), BOUNDS["f32"]
    else:
        bounds = BOUNDS.get(type_of(got).dtype.name)
    got, ref = got.cpu(), ref.cpu()
    assert got.shape == ref.shape, f"{label}: shape {tuple(got.shape)}, the oracle has {tuple(ref.shape)}"
    if bounds is None:
        assert torch.equal(got.long(), ref.long()), f"{label}: integers differ"
        return 0.0
    got, ref = got.double(), ref.to(result.dtype if isinstance(result, torch.Tensor) else torch.float32).double()
    assert torch.equal(got.isnan(), ref.isnan()), f"{label}: NaN in other places than the oracle's"
    infinite = ref.isinf()
    assert torch.equal(got.isinf(), infinite), f"{label}: infinity in other places than the oracle's"
    assert torch.equal(got[infinite], ref[infinite]), f"{label}: infinities of another sign"
    finite = ref.isfinite()
    got, ref = got[finite], ref[finite]
    if not ref.numel():
        return 0.0
    rms = ref.square().mean().sqrt()
    error = (got - ref).abs() / torch.maximum(ref.abs(), rms).clamp_min(1e-300)
    largest, mean = error.max().item(), error.square().mean().sqrt().item()
    assert largest <= bounds[0] and mean <= bounds[1], (
        f"{label}: relative error max {largest:.2e} (bound {bounds[0]:.0e}), rms {mean:.2e} (bound {bounds[1]:.0e})"
    )
    return largest


@cache
def cases_of(op: Op) -> tuple[Case, ...]:
    return op.cases


def serving(target: DeviceTarget):
    """(op, case, kernel, call) for each kernel that serves a case on `target`, by the case's declared types."""
    for op in OPS.values():
        for case in cases_of(op):
            call = call_of(op, case.types, case.attrs, target)
            for kernel in op.kernels.values():
                if kernel.serves(call):
                    yield op, case, kernel, call


def check(op: Op, case: Case, kernel: Kernel, target: DeviceTarget, device: str) -> float:
    """Run a kernel on a case and compare every result with the oracle."""
    values = operands(op, case)
    reference = oracle(op, [v.clone() if isinstance(v, torch.Tensor) else v for v in values], case.attrs)
    placed = [None if v is None else v.to(device) for v in values]
    if case.strided:  # a copy to a device packs rows, so they are set apart there once more
        placed = [_apart(v) for v in placed]
    call = call_of(op, tuple(type_of(v) for v in placed), case.attrs, target)
    outputs, steps, memory = build(kernel, call, placed, device)
    for step in steps:
        step()
    if device != "cpu":
        torch.cuda.synchronize()
    memory.check(f"{kernel.id} on {case.name}")
    return max(
        assert_close(got, ref, f"{kernel.id} on {case.name}, result {i}")
        for i, (got, ref) in enumerate(zip(outputs, reference, strict=True))
    )
