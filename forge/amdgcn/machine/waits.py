"""Which registers a load has yet to fill, by the counters that s_waitcnt and its successors wait for.

Emulated loads are done at once, so that a missing wait would go unseen. When asked, the machine keeps for each load
its counter and registers until a wait says that it is done; a register used before is a fault, and so is a barrier
that a wave reaches with writes to LDS on their way. Sources: the ISA documents of CDNA3, RDNA3 and RDNA4, "Data
dependency resolution".
"""

from __future__ import annotations

from collections.abc import Callable

from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.machine.registers import Registers
from forge.amdgcn.state.waves import Pending, Waves
from forge.amdgcn.trap import WAIT, Fault

VM, LGKM, STORE = "vmcnt", "lgkmcnt", "vscnt"  # RDNA4 splits LGKM: there LGKM is dscnt and SCALAR is kmcnt
SCALAR = "kmcnt"
_VECTOR = ("MUBUF", "MTBUF", "VBUFFER", "GLOBAL", "VGLOBAL", "FLAT", "VFLAT", "SCRATCH", "VSCRATCH")
_SINGLE = {  # waits for one counter
    "s_waitcnt_vscnt": STORE, "s_waitcnt_vmcnt": VM, "s_waitcnt_lgkmcnt": LGKM, "s_wait_loadcnt": VM,
    "s_wait_dscnt": LGKM, "s_wait_kmcnt": SCALAR, "s_wait_storecnt": STORE,
}  # fmt: skip
_BOTH = {"s_wait_loadcnt_dscnt": VM, "s_wait_storecnt_dscnt": STORE}  # for that one and dscnt

Execute = Callable[[Waves], object]


def checked(instruction: Instruction, family: str, touched: Registers, run: Execute) -> Execute:
    """`run`, after a look at what is outstanding, and with what it leaves outstanding itself.

    Loads of one counter fill their registers in order, but for scalar ones: where they fill the same register (or its
    two halves), none has to wait for the other.
    """
    allowed = limits(instruction, family)
    if allowed:

        def wait(w: Waves) -> object:
            for counter, limit in allowed.items():
                _retire(w, counter, limit)
            return run(w)

        return wait
    raises = raised(instruction, family)
    ordered = instruction.encoding != "SMEM"
    signals = instruction.name in ("s_barrier", "s_barrier_signal")

    def execute(w: Waves) -> object:
        if signals and any(load.counter == LGKM and not load.registers for load in w.pending):
            before = _told(LGKM, family)
            raise Fault(WAIT, f"writes to LDS are outstanding at a barrier; no wait for {before} precedes it")
        for load in w.pending:
            in_turn = load.counter == raises and load.ordered and ordered
            if load.registers & (touched.reads if in_turn else touched.reads | touched.writes):
                between = _told(load.counter, family)
                raise Fault(WAIT, f"it uses a register that a load fills; no wait for {between} stands between them")
        result = run(w)
        if raises:
            w.pending.append(Pending(raises, touched.writes, ordered))
        return result

    return execute


def raised(instruction: Instruction, family: str) -> str | None:
    """The counter that a memory instruction raises until it is done."""
    name, encoding = instruction.name, instruction.encoding
    if "inv" in name.split("_") or "wb" in name:
        return None
    if encoding == "SMEM":
        return SCALAR if family == "rdna4" else LGKM
    if encoding == "DS":
        return LGKM
    if encoding in _VECTOR:
        stores = "D0" not in instruction.operands
        return STORE if stores and family != "cdna" else VM
    return None


def limits(instruction: Instruction, family: str) -> dict[str, int]:
    """Of each counter that an instruction waits for, how many of the newest operations may still be outstanding."""
    name = instruction.name
    if not name.startswith(("s_waitcnt", "s_wait_")) or "SIMM16" not in instruction.operands:
        return {}
    value = instruction.operands["SIMM16"].value
    if name == "s_waitcnt" and family == "cdna":
        return {VM: (value & 15) | (value >> 10 & 48), LGKM: value >> 8 & 15}
    if name == "s_waitcnt":
        return {VM: value >> 10 & 63, LGKM: value >> 4 & 63}
    low, high = value & 63, value >> 8 & 63
    if name in _SINGLE:
        return {_SINGLE[name]: low}
    return {_BOTH[name]: high, LGKM: low} if name in _BOTH else {}


def _told(counter: str, family: str) -> str:
    """A counter's name on the architecture."""
    return {VM: "loadcnt", LGKM: "dscnt", STORE: "storecnt"}.get(counter, counter) if family == "rdna4" else counter


def _retire(w: Waves, counter: str, limit: int) -> None:
    """Forget all but the newest `limit` of a counter; nothing is known of its scalar loads until it is 0."""
    outstanding = [load for load in w.pending if load.counter == counter]
    done = len(outstanding) - limit
    if done <= 0 or (limit and not all(load.ordered for load in outstanding)):
        return
    kept = []
    for load in w.pending:
        if load.counter == counter and done > 0:
            done -= 1
        else:
            kept.append(load)
    w.pending = kept
