"""Emulate a kernel: run a code object on a grid, on operands in this process's memory."""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch

from forge.amdgcn.code.codeobject import KernelCode, kernels
from forge.amdgcn.code.decode import decode_object
from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.code.tables import family, tables
from forge.amdgcn.counters import Counters, banks, counters
from forge.amdgcn.machine.dispatch import Dispatch
from forge.amdgcn.machine.lockstep import DEFAULT_LIMIT
from forge.amdgcn.machine.program import Bound, program
from forge.amdgcn.state.memory import Memory
from forge.amdgcn.state.traffic import Meter
from forge.amdgcn.state.waves import Waves
from forge.errors import UnsupportedError

PAGE = 1 << 12
MAX_ARGUMENTS = 1 << 16  # bytes; HIP takes far fewer
NOWHERE = 0x7F00_0000_0000_0000  # no process has memory from here on
HOSTS = {  # hidden arguments that point to what a host serves while a kernel runs
    "hidden_hostcall_buffer": "the buffer by which device_print and device_assert call the host; nobody serves it here",
    "hidden_printf_buffer": "the buffer of device_print; there is none here",
    "hidden_heap_v1": "the heap of the device; there is none here",
    "hidden_default_queue": "the queue of kernels that start kernels; there is none here",
}
_PACKED = {
    "i1": "<?", "u1": "<?", "i8": "<b", "u8": "<B", "i16": "<h", "u16": "<H", "i32": "<i", "u32": "<I", "i64": "<q",
    "u64": "<Q", "fp16": "<e", "fp64": "<d",
}  # fmt: skip


class CodeObject(Protocol):
    """A kernel as its compiler gives it."""

    @property
    def name(self) -> str: ...
    @property
    def binary(self) -> bytes:
        """The ELF file."""

    @property
    def assembly(self) -> str:
        """The listing of the code, against which decoding is held."""

    @property
    def lds(self) -> int:
        """Bytes a workgroup has."""

    @property
    def threads(self) -> int:
        """Of a workgroup."""

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """(name, Triton's type) of the arguments that a launch passes, in order."""


@dataclass(frozen=True)
class Checks:
    """What is looked for beyond the traps: missing waits, LDS races. `limit` bounds the instructions of a batch."""

    waits: bool = False
    races: bool = False
    limit: int = DEFAULT_LIMIT


NO_CHECKS = Checks()


@dataclass(frozen=True)
class Ran:
    """An instruction that a wave ran, and an address in memory that it, or one beside it, touched by it; 0 if none."""

    instruction: Instruction
    address: int


@dataclass(frozen=True)
class Emulation:
    """What a launch did. `steps` are copies of the code's, by program counter, that count this launch alone."""

    object: CodeObject
    steps: Mapping[int, Bound]
    instructions: int  # executed, summed over waves
    seconds: float
    counters: Counters | None = None  # if it was to count


def require(arch: str) -> None:
    """Raises UnsupportedError for an architecture without an emulator, MissingDependencyError without its tables."""
    family(arch)
    tables()


def run(
    object: CodeObject,
    grid: tuple[int, int, int],
    given: Mapping[str, Any],
    checks: Checks = NO_CHECKS,
    *,
    count: bool = False,
    trace: list[Ran] | None = None,
    reachable: Sequence[torch.Tensor] = (),
    compute_units: int = 1,
) -> Emulation:
    """Run a kernel on a grid of workgroups. Threads may run at once, launches of one kernel too.

    `given` has the arguments by the names of `object.parameters`: torch tensors of the CPU, which are changed in place,
    and numbers. `reachable` are further tensors, whose addresses the kernel finds in memory. Workgroups that wait for
    each other run beside each other, as many as `compute_units` hold. With `count`, the result has the counters of the
    launch; it takes a little longer. `trace` is given what the first wave runs, in order.
    Raises EmulationError where the code does what no device may be relied on to do.
    """
    code, loaded, image = load(object.binary, object.assembly, object.name, checks.waits)
    steps = {pc: replace(step) for pc, step in loaded.items()}  # to count in: what is loaded is shared
    memory = Memory()
    parameters = [(name, type, given[name]) for name, type in object.parameters]
    arguments = kernarg(code, parameters, grid, object, memory)
    memory.map(arguments, "the kernel's arguments", writable=False)
    for octets in image:
        memory.map(octets, "the code object", writable=False)
    for number, tensor in enumerate(reachable):
        _address(tensor, f"reachable tensor {number}", memory)
    meter = Meter(banks(code.arch)) if count or trace is not None else None
    if trace is not None and meter is not None:
        steps = {pc: replace(step, run=_traced(step, trace, meter)) for pc, step in steps.items()}
    dispatch = Dispatch(
        code, steps, grid, object.threads, max(object.lds, code.lds), memory, arguments,
        limit=checks.limit, check_races=checks.races, compute_units=compute_units, meter=meter,
    )  # fmt: skip
    begin = time.perf_counter()
    dispatch.run()
    seconds = time.perf_counter() - begin
    executed = sum(s.executed for s in steps.values())
    if meter is None:
        return Emulation(object, steps, executed, seconds)
    groups = grid[0] * grid[1] * grid[2]
    waves = groups * object.threads // code.wave
    counted = counters(steps.values(), meter, code.arch, code.wave, groups, waves)
    return Emulation(object, steps, executed, seconds, counted)


def _traced(step: Bound, trace: list[Ran], meter: Meter) -> Callable[[Waves], Any]:
    """What a step does, with a note of it where the first wave is among those that do it."""

    def run(w: Waves) -> Any:
        meter.touched = 0
        outcome = step.run(w)
        if 0 in w.ids:
            trace.append(Ran(step.instruction, meter.touched))
        return outcome

    return run


@lru_cache(maxsize=64)
def load(
    binary: bytes, assembly: str, name: str, waits: bool
) -> tuple[KernelCode, dict[int, Bound], tuple[np.ndarray, ...]]:
    """A kernel decoded, checked against its listing, and bound; and the segments of its code object, where they lie."""
    code = kernels(binary)[name]
    base, image = placed(code)
    return code, program(decode_object(code, assembly), code.arch, base + code.text_address, waits=waits), image


def placed(code: KernelCode) -> tuple[int, tuple[np.ndarray, ...]]:
    """The code object's segments in memory, uint8 each, and what is to be added to their addresses in the file."""
    end = max(address + len(content) for address, content in code.rodata)
    room = np.zeros(end + PAGE, np.uint8)
    base = -room.ctypes.data % PAGE
    segments = []
    for address, content in code.rodata:
        segment = room[base + address : base + address + len(content)]
        segment[:] = np.frombuffer(content, np.uint8)
        segment.flags.writeable = False
        segments.append(segment)
    return room.ctypes.data + base, tuple(segment for segment in segments if segment.size)


def kernarg(
    code: KernelCode,
    parameters: list[tuple[str, str, Any]],
    grid: tuple[int, int, int],
    object: CodeObject,
    memory: Memory,
) -> np.ndarray:
    """The kernarg segment, uint8: pointers (whose tensors are mapped), numbers, null for Triton's scratch, and the
    hidden arguments that the HIP runtime fills in: the grid and the workgroup."""
    explicit = [a for a in code.arguments if not a.kind.startswith("hidden")]
    if not len(parameters) <= len(explicit) <= len(parameters) + 2:  # global and profile scratch come last
        raise UnsupportedError(f"{code.name} takes {len(explicit)} arguments, the launch has {len(parameters)}")
    if code.kernarg_size > MAX_ARGUMENTS:
        raise UnsupportedError(f"{code.name} has {code.kernarg_size} bytes of arguments, more than {MAX_ARGUMENTS}")
    segment = bytearray(code.kernarg_size + -code.kernarg_size % 4)
    for argument, (name, type, value) in zip(explicit, parameters, strict=False):
        if type.startswith("*"):
            packed = struct.pack("<Q", _address(value, name, memory))
        else:
            packed = _number(value, type, f"{code.name}'s argument {name}")
        segment[argument.offset : argument.offset + len(packed)] = packed
    hidden = {"hidden_group_size_x": object.threads, "hidden_group_size_y": 1, "hidden_group_size_z": 1}
    hidden |= {f"hidden_block_count_{axis}": count for axis, count in zip("xyz", grid, strict=True)}
    hidden |= {"hidden_grid_dims": 3, "hidden_dynamic_lds_size": object.lds}
    for number, argument in enumerate(code.arguments):
        if argument.kind in HOSTS:
            hidden[argument.kind] = NOWHERE + (number << 32)
            memory.absent[hidden[argument.kind]] = HOSTS[argument.kind]
        if argument.kind in hidden:
            value = hidden[argument.kind].to_bytes(argument.size, "little")
            segment[argument.offset : argument.offset + argument.size] = value
    return np.frombuffer(segment, np.uint8)


def _number(value: Any, type: str, what: str) -> bytes:
    """A number as Triton's launcher passes it: rounded to fp32 or infinite, cut to bf16, else in the type's range."""
    try:
        if type in ("fp32", "bf16"):
            return bytes(ctypes.c_float(value))[-2 if type == "bf16" else 0 :]
        if type in _PACKED:
            return struct.pack(_PACKED[type], value)
    except (struct.error, OverflowError, TypeError) as error:
        raise UnsupportedError(f"{what} of type {type} cannot be {value!r}: {error}") from error
    raise UnsupportedError(f"{what} is of type {type}, which cannot be passed")


def _address(value: Any, name: str, memory: Memory) -> int:
    """Where a tensor lies; from its first to its last element it may be read and written."""
    if value is None:
        return 0
    if not isinstance(value, torch.Tensor) or value.device.type != "cpu":
        raise UnsupportedError(f"{name} is no tensor of the CPU, which is where emulated code finds its memory")
    if value.numel() == 0:
        return value.data_ptr()
    extent = 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
    size, start = value.element_size(), value.storage_offset()
    octets = torch.empty(0, dtype=torch.uint8).set_(value.untyped_storage(), start * size, (extent * size,), (1,))
    return memory.map(octets.numpy(), name)
