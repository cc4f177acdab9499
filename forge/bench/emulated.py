"""What the code of single ops does for an AMD target, counted by emulating it: facts about the code, and no times.

Each case is of a size at which the loops carry the weight, not what stands before and after them; its result is
held against the op's oracle, as a count of wrong code says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from operator import add
from typing import Any, Final

from forge.amdgcn.bridge import emulate
from forge.amdgcn.counters import Counters
from forge.amdgcn.emulate import Emulation, require
from forge.bench.ops import worth_timing
from forge.errors import UnsupportedError
from forge.graph.op import Case, Op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.kernels.paged_attention.cases import batch
from forge.lower.launch import Launch, Task
from forge.lower.select import call_of, select
from forge.quant import block_types
from forge.target import DeviceTarget
from forge.verify import check
from forge.verify.check import STORE

WEIGHT, KEY, ELEMENT = "weight", "key", "element"
_ATTENTION: Final = {"causal": True, "scale": 128**-0.5, "window": 0, "softcap": 0.0}


@dataclass(frozen=True)
class CountedRow:
    """The launches of one call together. `unit` is what counts are divided by, `units` how many of it the call has."""

    op: str
    kernel: str
    case: str
    types: str
    unit: str
    units: int
    launches: int
    counters: Counters
    error: float
    seconds: float  # that the emulation took

    @property
    def loaded(self) -> float:
        """Bytes a unit that vector instructions load from memory."""
        return self.counters.memory.loaded.total() / self.units

    @property
    def valu(self) -> float:
        """Vector ALU instructions a unit, each as often as the wave has lanes: the lanes' work, whatever the wave."""
        return self.counters.slots / self.units

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds a unit of matrix instructions."""
        return self.counters.multiply_adds / self.units

    def json(self) -> dict[str, Any]:
        shown = {k: v for k, v in vars(self).items() if k != "counters"}
        for name in ("loaded", "valu", "multiply_adds"):
            shown[f"{name}_per_unit"] = getattr(self, name)
        return shown | {"masked": self.counters.masked, "idle": self.counters.idle, "counters": self.counters.json()}


def count(ops: Mapping[str, Op], target: DeviceTarget) -> Iterator[CountedRow]:
    """A row for each case of `cases` whose kernel has code of ours for `target`.

    Raises UnsupportedError for a target without an emulator, NumericsError or EmulationError where a kernel is wrong.
    """
    require(target.arch)
    for op in ops.values():
        for case in () if op.view else cases(op):
            try:
                kernel = select(call_of(op, case.types, case.attrs, target), STORE).kernel
            except UnsupportedError:
                continue
            outcome = check(op, case, kernel, target, "cpu", lambda task: _counted(task, target))
            done = [s for s in outcome.tasks if isinstance(s, Emulation)]
            counts = [s.counters for s in done if s.counters is not None]
            if not counts:
                continue  # a library's kernel
            unit, units = units_of(op, case)
            types = ", ".join(str(t) for t in case.types if t is not None)
            seconds = sum(s.seconds for s in done)
            yield CountedRow(
                op.name, kernel.name, case.name, types, unit, units, len(counts), reduce(add, counts), outcome.error,
                seconds,
            )  # fmt: skip


def _counted(task: Task, target: DeviceTarget) -> Any:
    return emulate(task, target, count=True) if isinstance(task, Launch) else task()


def cases(op: Op) -> list[Case]:
    """Those of `sized` for the op; without any, its costliest small case of each combination of element types."""
    if op.name in sized():
        return list(sized()[op.name])
    return worth_timing(op, (case for case in op.cases if case.small))


def units_of(op: Op, on: Case) -> tuple[str, int]:
    """What a call's work is divided by, and how many there are: weights read, keys of each kv head that queries see,
    or else elements: of what is taken or appended, or of the largest operand."""
    types = [t for t in on.types if t is not None]
    match op.name:
        case "linear":
            return WEIGHT, types[1].numel
        case "dequantize":
            return WEIGHT, types[0].numel
        case "embed":
            return WEIGHT, types[0].numel * types[1].concrete()[1]
        case "flash_attention":
            sequences, keys, heads, _ = types[1].concrete()
            return KEY, sequences * keys * heads
        case "paged_attention":
            return KEY, sum(keys for _, keys in _LENGTHS[on.name]) * types[1].concrete()[2]
        case "kv_append":
            return ELEMENT, types[1].numel + types[2].numel
        case "take":
            return ELEMENT, types[1].numel * types[0].concrete()[1]
    return ELEMENT, max(t.numel for t in types)


def _linear(x: str, w: str, tokens: int, n: int, k: int, out: str) -> Case:
    return Case(
        f"{x} x {w}, {tokens} token{'s' * (tokens > 1)}", (tensor(x, tokens, k), tensor(w, n, k), None), {"out": out}
    )


def _flash(tokens: int, keys: int) -> Case:
    kv = tensor("f16", 1, keys, 2, 128)
    return Case(f"{tokens} queries, {keys} keys", (tensor("f16", 1, tokens, 8, 128), kv, kv), _ATTENTION)


_LENGTHS: Final = {"1 query, 1024 keys": ((1, 1024),), "64 queries, 256 keys": ((64, 256),)}


def _rows(width: int, *dtypes: str, weight: bool = False, **attrs: Any) -> Case:
    """4 rows of `width` in each of `dtypes`, and the weight of a norm."""
    types = tuple(tensor(t, 4, width) for t in dtypes)
    name = " ".join((*dtypes, str(width), *(f"{k}={v}" for k, v in attrs.items())))
    return Case(name, (*types, tensor("f32", width)) if weight else types, attrs)


@cache
def sized() -> Mapping[str, tuple[Case, ...]]:
    """Cases by op, as wide and long as a model's, with few rows."""
    return {
        "add": (_rows(4096, "f32", "f16"),),
        "add_rms_norm": (_rows(4096, "f32", "f16", weight=True, eps=1e-6, out="f16"),),
        "rms_norm": (_rows(4096, "f32", weight=True, eps=1e-6, out="f16"),),
        "quantize_q8": tuple(_rows(4096, "f16", residual=both) for both in (False, True)),
        "softmax": (_rows(4096, "f32"),),
        "swiglu": (_rows(14336, "f16", "f16"),),
        "linear": (
            *(_linear("a16", w, 1, 64, 4096, "f32") for w in block_types()),
            *(_linear("a8", w, 1, 64, 4096, "f32") for w in ("q4_K", "q6_K", "q8_0")),
            *(_linear("f16", w, 1, 64, 4096, "f32") for w in ("f16", "q4_K", "q6_K", "q8_0")),
            *(_linear("f16", w, 32, 64, 1024, "f16") for w in ("f16", "q4_K")),
            *(_linear("f16", w, 128, 128, 1024, "f16") for w in ("f16", "q4_K", "q6_K", "q8_0")),
        ),
        "dequantize": tuple(Case(w, (tensor(w, 8, 4096),), {"out": "f16"}) for w in block_types()),
        "embed": tuple(
            Case(w, (tensor("i32", 4), tensor(w, 16, 4096), None), {"out": "f32"}, {"ids": fills.integers(0, 16)})
            for w in ("f16", "q4_K", "q6_K", "q8_0")
        ),
        "flash_attention": (_flash(64, 64), _flash(64, 512)),
        "paged_attention": tuple(
            batch(name, lengths, heads=8, kv_heads=2, width=128) for name, lengths in _LENGTHS.items()
        ),
    }
