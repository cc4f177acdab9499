"""Which registers a load has yet to fill, by the counters that s_waitcnt and its successors wait for.

Emulated loads are done at once, so that a missing wait would go unseen. When asked, the machine keeps for each load
its counter and registers until a wait says that it is done; a register used before is a fault, and so is a barrier
that a wave reaches with writes to LDS on their way. Sources: the ISA documents of CDNA3, RDNA3 and RDNA4, "Data
dependency resolution".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.machine.registers import Registers
from forge.amdgcn.state.waves import Waves
from forge.amdgcn.trap import WAIT, Fault

VM, LGKM, STORE = "vmcnt", "lgkmcnt", "vscnt"  # RDNA4 splits LGKM: there LGKM is dscnt and SCALAR is kmcnt
SCALAR = "kmcnt"


@dataclass(frozen=True)
class Wait:
    """Counters, and how many of the newest operations may still be outstanding."""

    limits: tuple[tuple[str, int], ...]


def counter(instruction: Instruction, kind: str) -> str | None:
    """The counter that a memory instruction raises until it is done."""
    name, encoding = instruction.name, instruction.encoding
    if "inv" in name.split("_") or "wb" in name or encoding in ("SOPP", "SOPK"):
        return None
    if encoding == "SMEM":
        return SCALAR if kind == "rdna4" else LGKM
    if encoding == "DS":
        return LGKM
    if encoding in ("MUBUF", "MTBUF", "VBUFFER", "GLOBAL", "VGLOBAL", "FLAT", "VFLAT", "SCRATCH", "VSCRATCH"):
        stores = "D0" not in instruction.operands
        return STORE if stores and kind != "cdna" else VM
    return None


def wait(instruction: Instruction, kind: str) -> Wait | None:
    """What a waiting instruction waits for."""
    name = instruction.name
    if not name.startswith(("s_waitcnt", "s_wait_")) or "SIMM16" not in instruction.operands:
        return None
    value = instruction.operands["SIMM16"].value
    if name == "s_waitcnt" and kind == "cdna":
        return Wait(((VM, value & 15 | value >> 10 & 48), (LGKM, value >> 8 & 15)))
    if name == "s_waitcnt":
        return Wait(((VM, value >> 10 & 63), (LGKM, value >> 4 & 63)))
    low, high = value & 63, value >> 8 & 63
    single = {
        "s_waitcnt_vscnt": STORE, "s_waitcnt_vmcnt": VM, "s_waitcnt_lgkmcnt": LGKM, "s_wait_loadcnt": VM,
        "s_wait_dscnt": LGKM, "s_wait_kmcnt": SCALAR, "s_wait_storecnt": STORE,
    }  # fmt: skip
    if name in single:
        return Wait(((single[name], low),))
    if name == "s_wait_loadcnt_dscnt":
        return Wait(((VM, high), (LGKM, low)))
    if name == "s_wait_storecnt_dscnt":
        return Wait(((STORE, high), (LGKM, low)))
    return None


def checked(
    instruction: Instruction, kind: str, touched: Registers, run: Callable[[Waves], object]
) -> Callable[[Waves], object]:
    """`run`, after a look at what is outstanding, and with what it leaves outstanding itself.

    Loads of one counter fill their registers in order, but for scalar ones: where they fill the same register (or its
    two halves), none has to wait for the other.
    """
    waiting, raised = wait(instruction, kind), counter(instruction, kind)
    out_of_order = instruction.encoding == "SMEM"
    reads, writes = touched.reads, touched.writes
    signals = instruction.name in ("s_barrier", "s_barrier_signal")

    def execute(w: Waves) -> object:
        if waiting:
            for name, limit in waiting.limits:
                _retire(w, name, limit)
            return run(w)
        if signals and (LGKM, 0) in w.pending:
            raise Fault(
                WAIT, f"writes to LDS are outstanding at a barrier; no wait for {_told(LGKM, kind)} precedes it"
            )
        for name, registers in w.pending:
            follows = name == raised and registers > 0 and not out_of_order
            if abs(registers) & (reads if follows else reads | writes):
                told = f"it uses a register that a load fills; no wait for {_told(name, kind)} stands between them"
                raise Fault(WAIT, told)
        result = run(w)
        if raised:  # a negative mask marks a scalar load, which may come back in any order
            w.pending.append((raised, -writes if out_of_order else writes))
        return result

    return execute


def _told(name: str, kind: str) -> str:
    """A counter's name on the architecture."""
    return {VM: "loadcnt", LGKM: "dscnt", STORE: "storecnt"}.get(name, name) if kind == "rdna4" else name


def _retire(w: Waves, name: str, limit: int) -> None:
    """Forget all but the newest `limit` of a counter; nothing is known of its scalar loads until it is 0."""
    outstanding = [p for p in w.pending if p[0] == name]
    done = len(outstanding) - limit
    if done <= 0 or (limit and any(registers < 0 for _, registers in outstanding)):
        return
    kept = []
    for entry in w.pending:
        if entry[0] == name and done > 0:
            done -= 1
        else:
            kept.append(entry)
    w.pending = kept
