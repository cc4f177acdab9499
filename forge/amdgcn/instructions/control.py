"""Instructions that steer: branches, calls, barriers, waits, and the hints that change no state.

A step that returns None goes on; `Branch`, `BARRIER` and `END` tell the machine otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from forge.amdgcn.code.instruction import EXEC, VCC, Instruction
from forge.amdgcn.code.tables import family
from forge.amdgcn.instructions.operands import reader, writer
from forge.amdgcn.state.waves import SIGNAL, Waves
from forge.amdgcn.trap import BARRIER as BARRIER_FAULT
from forge.amdgcn.trap import UNKNOWN, Fault

BARRIER, END = "barrier", "end"
MODE = 1  # the number of that hardware register
ROUNDING, TRAPS, NEAREST_EVEN = 0xFF, 0x1FF000, 0xF0  # fields of MODE; rounding to nearest even, denormals kept
GET_REALTIME = 0x83  # a message that asks for the time (RDNA 3)


@dataclass(frozen=True)
class Branch:
    """Where each wave goes: bool[n] chooses `target`; the others fall through. `target` may be one for each wave."""

    taken: np.ndarray
    target: Any  # int, or int[n]


Execute = Callable[[Waves], Any]

# They order, prefetch or delay; the machine runs each instruction to its end before the next.
HINTS = {
    "s_nop", "s_sleep", "s_setprio", "s_clause", "s_delay_alu", "s_set_inst_prefetch_distance", "s_inst_prefetch",
    "s_wait_idle", "s_wait_event", "s_waitcnt_depctr", "s_wait_alu", "s_code_end", "s_sethalt", "s_icache_inv",
    "s_dcache_inv", "s_dcache_wb", "s_ttracedata", "s_ttracedata_imm", "s_incperflevel", "s_decperflevel",
    "s_version", "v_nop", "v_pipeflush", "s_sendmsg",
}  # fmt: skip


def bind(instruction: Instruction, arch: str, base: int) -> Execute | None:
    """What a steering `instruction` does, or None if it does not steer. `base` is the address of the code."""
    name = instruction.name
    if name in HINTS or name.startswith(("s_waitcnt", "s_wait_")):
        return _nothing
    if name in ("s_endpgm", "s_endpgm_saved"):
        return lambda w: END
    if name == "s_barrier":
        return lambda w: BARRIER
    if name == "s_barrier_signal":
        return _signal
    if name == "s_barrier_wait":
        return _await
    if name.startswith("s_setreg_"):
        return _set_mode(instruction, family(arch) != "cdna")
    if name in ("s_round_mode", "s_denorm_mode"):
        number = instruction.operands["SIMM16"].value & 15
        return _nothing if number == (0 if name == "s_round_mode" else 15) else None
    if name in ("s_memtime", "s_memrealtime") or (name == "s_sendmsg_rtn_b64" and _asks_time(instruction)):
        return _time(instruction, family(arch) != "cdna")
    if name == "s_branch" or name.startswith("s_cbranch_"):
        return _branch(name, instruction.jump)
    if name in ("s_getpc_b64", "s_setpc_b64", "s_swappc_b64", "s_call_b64"):
        return _call(instruction, arch, base)
    return None


def _nothing(w: Waves) -> None:
    """A hint."""


def _signal(w: Waves) -> None:
    w.defined |= 1 << SIGNAL


def _await(w: Waves) -> str:
    if w.lacks(1 << SIGNAL):
        raise Fault(BARRIER_FAULT, "a wave waits that has not signalled")
    w.defined &= ~(1 << SIGNAL)
    w.before = tuple(b & ~(1 << SIGNAL) for b in w.before)
    return BARRIER


def _set_mode(instruction: Instruction, rdna: bool) -> Execute | None:
    """Bits of MODE, of which FP16_OVFL may change; rounding to nearest even and denormals kept are all there is."""
    place = instruction.operands["SIMM16"].value
    register, offset, size = place & 63, place >> 6 & 31, (place >> 11 & 31) + 1
    if register != MODE:
        return None
    field = np.uint32(((1 << size) - 1) << offset & 0xFFFFFFFF)
    given = instruction.operands.get("S0") or instruction.operands["SIMM32"]
    if "imm32" in instruction.name:
        given = instruction.operands["SIMM32"]
    read = reader(given, rdna=rdna)

    def set_mode(w: Waves) -> None:
        value = np.broadcast_to(read(w) << np.uint32(offset) & field, (w.n, 1))
        wrong = (value ^ np.uint32(NEAREST_EVEN)) & field & np.uint32(ROUNDING | TRAPS)
        if wrong.any():
            raise Fault(
                UNKNOWN, f"MODE is set to {int(value.max()):#x}: rounding, denormals and traps stay as they are"
            )
        w.mode = (w.mode & ~field) | value

    return set_mode


def _asks_time(instruction: Instruction) -> bool:
    message = instruction.operands.get("S0")
    return message is not None and message.index == GET_REALTIME


def _time(instruction: Instruction, rdna: bool) -> Execute:
    """A clock that goes on by one whenever somebody looks, so that runs are repeatable: it tells no time."""
    write = writer(instruction, instruction.operands["D0"], 64, rdna=rdna)

    def time(w: Waves) -> None:
        w.memory.clock += 1
        write(w, np.full((w.n, 1), w.memory.clock, np.uint64))

    return time


_CONDITIONS: dict[str, Callable[[Waves], np.ndarray]] = {
    "s_branch": lambda w: np.ones(w.n, np.bool_),
    "s_cbranch_scc0": lambda w: w.scc[:, 0] == 0,
    "s_cbranch_scc1": lambda w: w.scc[:, 0] != 0,
    "s_cbranch_vccz": lambda w: w.mask(VCC)[:, 0] == 0,
    "s_cbranch_vccnz": lambda w: w.mask(VCC)[:, 0] != 0,
    "s_cbranch_execz": lambda w: w.mask(EXEC)[:, 0] == 0,
    "s_cbranch_execnz": lambda w: w.mask(EXEC)[:, 0] != 0,
}


def _branch(name: str, target: int) -> Execute | None:
    condition = _CONDITIONS.get(name)
    return None if condition is None else lambda w: Branch(condition(w), target)


def _call(instruction: Instruction, arch: str, base: int) -> Execute:
    """Program counters as values: addresses from `base` on."""
    rdna = family(arch) != "cdna"
    operands = instruction.operands
    save = writer(instruction, operands["D0"], 64, rdna=rdna) if "D0" in operands else None
    where = reader(operands["S0"], rdna=rdna) if "S0" in operands else None
    after = np.array([[base + instruction.next]], np.uint64)
    near = instruction.jump if where is None and "SIMM16" in operands else instruction.next

    def execute(w: Waves) -> Branch | None:
        target: Any = near
        if where is not None:
            target = np.broadcast_to(where(w), (w.n, 1))[:, 0].astype(np.int64) - base
        if save is not None:
            save(w, np.broadcast_to(after, (w.n, 1)))
        if instruction.name == "s_getpc_b64":
            return None
        return Branch(np.ones(w.n, np.bool_), target)

    return execute
