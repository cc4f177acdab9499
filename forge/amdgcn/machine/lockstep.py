"""The machine: waves in lockstep through a program, parting where their branches part and joining again.

Of waves at different program counters those at the lowest run first, until they meet others: then they go on
together. Waves at a barrier wait until all of their workgroup stand at it. Loads and stores are done at once and in
order, workgroup beside workgroup: one legal order of the many that a device has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from forge.amdgcn.code.decode import decode_all
from forge.amdgcn.code.instruction import CDNA_M0, EXEC, M0, VCC
from forge.amdgcn.instructions import control
from forge.amdgcn.machine.program import Bound, program
from forge.amdgcn.state.waves import ACC, SCC, VECTOR, Waves
from forge.amdgcn.trap import BARRIER, LIMIT, UNINITIALIZED, UNKNOWN, Fault
from forge.errors import EmulationError

_NAMES = {
    VCC: "vcc_lo", VCC + 1: "vcc_hi", CDNA_M0: "m0", M0: "m0", EXEC: "exec_lo", EXEC + 1: "exec_hi",
}  # fmt: skip
DEFAULT_LIMIT = 20_000_000  # instructions that a batch of waves may run


@dataclass
class Machine:
    """Runs a batch of waves through `steps`. `limit` bounds its instructions, one for all waves that run it at once."""

    steps: Mapping[int, Bound]
    limit: int = DEFAULT_LIMIT
    count_lanes: bool = False
    _ready: list[Waves] = field(default_factory=list)
    _waiting: list[Waves] = field(default_factory=list)
    _ended: dict[int, int] = field(default_factory=dict)  # waves of a workgroup that are through
    _steps_left: int = 0

    def run(self, waves: Waves) -> Waves:
        """Run until every wave has ended; gives the waves as the last ones of them stood at their end."""
        self._ready, self._waiting, self._ended = [waves], [], {}
        self._steps_left = self.limit
        last = waves
        with np.errstate(all="ignore"):
            while self._ready or self._waiting:
                if not self._ready:
                    self._release()
                self._ready.sort(key=lambda w: w.pc, reverse=True)
                last = self._ready.pop()
                while self._ready and self._ready[-1].pc == last.pc:
                    last = last.joined(self._ready.pop())
                self._advance(last)
        return last

    def _advance(self, w: Waves) -> None:
        """Run `w` until it ends, waits, parts, or reaches other waves."""
        others = self._ready[-1].pc if self._ready else None
        steps = self.steps
        while True:
            step = steps.get(w.pc)
            if step is None:
                raise EmulationError("no instruction of the kernel starts here", kind=UNKNOWN, where=f"{w.pc:#x}")
            if step.needs & ~w.defined and w.lacks(step.needs):
                self._undefined(step, w)
            step.executed += w.n
            if self.count_lanes:
                step.lanes += int(w.active.sum())
            self._steps_left -= 1
            if self._steps_left < 0:
                raise self._error(Fault(LIMIT, f"more than {self.limit} instructions in one batch of waves"), step, w)
            try:
                outcome = step.run(w)
            except Fault as fault:
                raise self._error(fault, step, w) from fault
            w.defined |= step.gives
            if step.passes:
                self._pass_on(step, w)
            w.pc = step.next
            if outcome is not None and self._steer(w, outcome):
                return
            if others is not None and w.pc >= others:
                self._ready.append(w)
                return

    def _steer(self, w: Waves, outcome: object) -> bool:
        """Act on a branch, barrier or end; True if `w` does not simply go on."""
        if isinstance(outcome, control.Branch):
            if outcome.taken.all() and isinstance(outcome.target, int):
                w.pc = outcome.target
                return False
            return self._part(w, outcome)
        if outcome == control.END:
            for group in w.group.tolist():
                self._ended[group] = self._ended.get(group, 0) + 1
            return True
        if not self._ready and not self._waiting and not self._ended:
            w.lds.barrier(w.group)  # all waves stand here
            return False
        self._waiting.append(w)
        return True

    def _part(self, w: Waves, branch: control.Branch) -> bool:
        targets = np.where(branch.taken, branch.target, w.pc)
        places = np.unique(targets)
        if len(places) == 1:
            w.pc = int(places[0])
            return False
        for place in places.tolist():
            part = w.select(targets == place)
            part.pc = place
            self._ready.append(part)
        return True

    def _release(self) -> None:
        """Let go on those workgroups whose waves all stand at one barrier; without any, none ever will."""
        groups = np.concatenate([w.group for w in self._waiting])
        places = np.concatenate([np.full(w.n, w.pc) for w in self._waiting])
        for group in np.unique(groups).tolist():
            at = np.unique(places[groups == group])
            gone = self._ended.get(group, 0)
            if gone or len(at) > 1:
                pc = int(at[0])
                waiting = int(((groups == group) & (places == pc)).sum())
                raise self._error(
                    Fault(BARRIER, f"{waiting} waves of workgroup {group} wait here" + (
                        f", {gone} have ended" if gone else f", others at {int(at[1]):#x}"
                    )),
                    next(s for s in self.steps.values() if s.next == pc),
                    self._waiting[0],
                )  # fmt: skip
        for w in self._waiting:
            w.lds.barrier(w.group)
        self._ready, self._waiting = self._waiting, []

    @staticmethod
    def _pass_on(step: Bound, w: Waves) -> None:
        """Results that hold something only if what they are made of does."""
        for needs, gives in step.passes:
            if w.lacks(needs):
                w.defined &= ~gives
                w.before = tuple(b & ~gives for b in w.before)
            else:
                w.defined |= gives

    def _undefined(self, step: Bound, w: Waves) -> None:
        missing = w.lacks(step.needs)
        names = [_name(bit) for bit in range(missing.bit_length()) if missing >> bit & 1]
        raise self._error(Fault(UNINITIALIZED, f"registers {', '.join(names)} hold nothing yet"), step, w)

    def _error(self, fault: Fault, step: Bound, w: Waves) -> EmulationError:
        where = f"{step.instruction.pc:#x}: {step.instruction}"
        if step.instruction.source:
            where += f" ({step.instruction.source})"
        if fault.wave is not None:
            where += f", wave {int(w.ids[fault.wave])}"
            where += "" if fault.lane is None else f", lane {fault.lane}"
        return EmulationError(fault.what, kind=fault.kind, where=where)


def _name(bit: int) -> str:
    if bit == SCC:
        return "scc"
    if bit < VECTOR:
        return _NAMES.get(bit, f"s{bit}")
    number = bit - VECTOR
    return f"v{number}" if number < ACC else f"a{number - ACC}"


def run_text(arch: str, text: bytes, waves: Waves, *, limit: int = DEFAULT_LIMIT, waits: bool = False) -> Waves:
    """Run bare machine code from its first byte until every wave has ended."""
    steps = program(decode_all(text, arch, waves.lanes), arch, 0, waits=waits)
    return Machine(steps, limit=limit).run(waves)
