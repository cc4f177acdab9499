"""The machine: waves in lockstep through a program, parting where their branches part and joining again.

Of waves at different program counters those at the lowest run first, until they meet others: then they go on
together. Waves at a barrier wait until all of their workgroup stand at it. Waves that go round in a loop make way for
others, workgroups that have not begun among them (`spinning`). Loads and stores are done at once and in
order, workgroup beside workgroup: one legal order of the many that a device has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from forge.amdgcn.code.decode import decode_all
from forge.amdgcn.code.instruction import CDNA_M0, EXEC, M0, VCC
from forge.amdgcn.instructions import control
from forge.amdgcn.machine.program import Bound, program
from forge.amdgcn.machine.spinning import TURN, Rounds, fingerprint
from forge.amdgcn.state.waves import ACC, SCC, VECTOR, Waves
from forge.amdgcn.trap import BARRIER, LIMIT, SPIN, UNINITIALIZED, UNKNOWN, Fault
from forge.errors import EmulationError

_NAMES = {
    VCC: "vcc_lo", VCC + 1: "vcc_hi", CDNA_M0: "m0", M0: "m0", EXEC: "exec_lo", EXEC + 1: "exec_hi",
}  # fmt: skip
DEFAULT_LIMIT = 20_000_000  # instructions that a batch of waves may run
PATIENCE = 16  # turns of all that are left before others begin beside them
MANY = 64  # sets of waves whose rounds are counted at a time
Group = tuple[int, int]  # a workgroup among all that are resident: its batch, and which of that it is


def groups_of(w: Waves) -> list[Group]:
    """The workgroup of each wave."""
    return [(w.batch, group) for group in w.group.tolist()]


@dataclass
class Machine:
    """Runs a batch of waves through `steps`. `limit` bounds its instructions, one for all waves that run it at once."""

    steps: Mapping[int, Bound]
    limit: int = DEFAULT_LIMIT
    count_lanes: bool = False
    more: Callable[[], Waves | None] = lambda: None  # further workgroups that the device has room for
    late: Callable[[], int] = lambda: 0  # workgroups that have yet to begin
    _ready: list[Waves] = field(default_factory=list)
    _waiting: list[Waves] = field(default_factory=list)  # at a barrier
    _spinning: list[Waves] = field(default_factory=list)  # made way for others
    _ended: dict[Group, int] = field(default_factory=dict)  # waves of a workgroup that are through
    _rounds: dict[tuple[int, bytes], Rounds] = field(default_factory=dict)  # by batch and waves
    _held: int | None = None  # the fingerprint of all waves and memory when all last went round in vain
    _batches: int = 0
    _turns: int = 0  # how often all that were left made way since one of them ended
    _steps_left: int = 0

    def run(self, waves: Waves) -> Waves:
        """Run until every wave has ended; gives the waves as the last ones of them stood at their end."""
        self._ready, self._waiting, self._spinning, self._ended, self._held = [waves], [], [], {}, None
        self._rounds, self._turns = {}, 0
        self._steps_left = self.limit
        last = waves
        with np.errstate(all="ignore"):
            while self._ready or self._waiting or self._spinning:
                if not self._ready:
                    self._go_on()
                last = self._lowest()
                self._advance(last)
        return last

    def _lowest(self) -> Waves:
        """The ready waves at the lowest program counter: all of them that run together."""
        self._ready.sort(key=lambda w: w.pc, reverse=True)
        lowest = self._ready.pop()
        apart = []
        while self._ready and self._ready[-1].pc == lowest.pc:
            other = self._ready.pop()
            if other.batch == lowest.batch:
                lowest = lowest.joined(other)
            else:
                apart.append(other)
        self._ready += apart[::-1]
        return lowest

    def _advance(self, w: Waves) -> None:
        """Run `w` until it ends, waits, parts, makes way, or reaches other waves."""
        others = min((o.pc for o in self._ready if o.batch == w.batch), default=None)
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
                back, w.pc = outcome.target < w.pc, outcome.target
                return back and self._makes_way(w)
            return self._part(w, outcome)
        if outcome == control.END:
            self._turns = 0
            for group in groups_of(w):
                self._ended[group] = self._ended.get(group, 0) + 1
            return True
        if not (self._ready or self._waiting or self._spinning or self._ended):
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

    def _makes_way(self, w: Waves) -> bool:
        """Whether `w`, which has just gone back, waits for others; then it stands among those that do."""
        key = w.batch, w.ids.tobytes()
        rounds = self._rounds.setdefault(key, Rounds())
        if len(self._rounds) > MANY:
            self._rounds = {key: rounds}
        alone = not (self._ready or self._waiting or self._spinning)
        if not rounds.makes_way(w, PATIENCE * TURN if alone else TURN):
            return False
        del self._rounds[key]
        w.spins = rounds.same
        if alone and not w.spins and not self._start_more():
            return False
        self._spinning.append(w)
        return True

    def _start_more(self) -> bool:
        """Start workgroups that have not begun, if there are any and there is room for them."""
        more = self.more()
        if more is None:
            return False
        self._batches += 1
        more.batch = self._batches
        self._ready.append(more)
        self._steps_left += self.limit
        return True

    def _go_on(self) -> None:
        """Nobody is ready: those whose workgroup stands at a barrier go on, else workgroups that are yet to start, else
        those that made way. Raises EmulationError where none of them will ever get on."""
        if self._waiting and self._release():
            return
        patient = self._turns < PATIENCE and not any(w.spins for w in self._spinning)
        if not patient and self._start_more():
            return
        self._turns += 1
        if all(w.spins for w in self._spinning):
            before, self._held = self._held, fingerprint(self._spinning + self._waiting)
            if before == self._held:
                raise self._in_vain()
        self._ready, self._spinning = self._spinning, []

    def _in_vain(self) -> EmulationError:
        w = self._spinning[0]
        count = sum(other.n for other in self._spinning)
        told = f"{count} waves go round here and wait for what nobody will do"
        if self._waiting:
            told += f"; {sum(other.n for other in self._waiting)} others wait at a barrier"
        if self.late():
            told += f"; {self.late()} workgroups have not begun, since the device has no room for them"
        step = self.steps[w.pc]
        while not step.instruction.source and step.next in self.steps and step.next != w.pc:
            step = self.steps[step.next]  # the compiler gives the loop's first instructions no line
        return self._error(Fault(SPIN, told, wave=0), step, w)

    def _release(self) -> bool:
        """Let go on those workgroups whose waves all stand at one barrier; whether there are any."""
        busy = {group for w in self._spinning for group in groups_of(w)}
        places: dict[Group, list[int]] = {}
        for w in self._waiting:
            for group in groups_of(w):
                places.setdefault(group, []).append(w.pc)
        for group, at in places.items():
            gone = self._ended.get(group, 0)
            if group not in busy and (gone or len({*at}) > 1):
                pc = min(at)
                told = f"{at.count(pc)} waves of workgroup {group[1]} wait here"
                told += f", {gone} have ended" if gone else f", others at {min({*at} - {pc}):#x}"
                here = next(s for s in self.steps.values() if s.next == pc)
                raise self._error(Fault(BARRIER, told), here, self._waiting[0])
        waiting, self._waiting = self._waiting, []
        for w in waiting:
            stays = np.array([group in busy for group in groups_of(w)])
            for part, rows in ((self._waiting, stays), (self._ready, ~stays)):
                if rows.any():
                    part.append(w if rows.all() else w.select(rows))
        for w in self._ready:
            w.lds.barrier(w.group)
        return bool(self._ready)

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
