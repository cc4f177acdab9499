"""A dispatch: the grid cut into batches of workgroups, each started as the command processor starts it.

What a wave finds in its registers at its first instruction follows from the kernel descriptor: the user SGPRs in
their order (the pointer to the arguments, or the arguments themselves where they are preloaded), then the workgroup's
ids, and each lane's id in v0. Source: LLVM AMDGPUUsage, "Initial Kernel Execution State".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from forge.amdgcn.code.codeobject import KernelCode
from forge.amdgcn.code.descriptor import instruction_set
from forge.amdgcn.code.instruction import EXEC, TTMP7, TTMP8, TTMP9
from forge.amdgcn.machine.lockstep import DEFAULT_LIMIT, Machine
from forge.amdgcn.machine.program import Bound
from forge.amdgcn.state.lds import Lds
from forge.amdgcn.state.memory import Memory, Scratch
from forge.amdgcn.state.traffic import Meter
from forge.amdgcn.state.waves import ACC, POISON, SCC, VECTOR, Waves
from forge.amdgcn.trap import OUT_OF_BOUNDS
from forge.errors import EmulationError, UnsupportedError

# Lanes that run in lockstep: so many that NumPy's own cost a call is small, so few that the caches hold a register.
BATCH_LANES = 4096
MAX_THREADS = 1024  # of a workgroup
MAX_LDS = {"gfx950": 160 << 10}  # bytes of a workgroup; elsewhere 64 KiB
MAX_SCRATCH = 8 << 20  # bytes of a wave: COMPUTE_TMPRING_SIZE's field; gfx12's is wider


@dataclass(frozen=True)
class Dispatch:
    """One launch of a kernel: its steps, the grid in workgroups, the threads of one, and its memory."""

    code: KernelCode
    steps: Mapping[int, Bound]
    grid: tuple[int, int, int]
    threads: int
    lds: int  # bytes of LDS a workgroup has
    memory: Memory
    arguments: np.ndarray  # uint8: the kernarg segment, mapped in `memory`
    limit: int = DEFAULT_LIMIT
    check_races: bool = False
    compute_units: int = 1  # of the device: so much runs beside each other
    meter: Meter | None = None  # what the launch moves is counted there, and each step's active lanes

    def run(self) -> None:
        """Run every workgroup. Raises EmulationError at the first trap; what was stored before stays stored."""
        self._supported()
        self._fits()
        batches = list(self._batches())[::-1]
        while batches:
            first = batches.pop()
            room = self._resident - len(first)

            def more() -> Waves | None:
                """The next workgroups, beside those that run, if the device has room for them."""
                nonlocal room
                if not batches or len(batches[-1]) > room:
                    return None
                room -= len(batches[-1])
                return self.start(batches.pop())

            machine = Machine(self.steps, limit=self.limit, count_lanes=self.meter is not None, more=more)
            machine.late = lambda: sum(len(groups) for groups in batches)
            machine.run(self.start(first))

    @property
    def _resident(self) -> int:
        """Workgroups that the device holds at a time, by the waves, registers and LDS of its compute units."""
        simds, most, registers = (4, 8, 512) if instruction_set(self.code.arch) == "cdna" else (2, 16, 1536)
        waves = simds * min(most, registers // self.code.descriptor.vgprs)
        groups = waves * self.code.wave // self.threads
        if self.lds:
            groups = min(groups, MAX_LDS.get(self.code.arch, 64 << 10) // self.lds)
        return max(1, groups) * self.compute_units

    def _supported(self) -> None:
        descriptor = self.code.descriptor
        if descriptor.float_round_32 or descriptor.float_round_16_64:
            raise UnsupportedError(f"{self.code.name} does not round to nearest; the emulator does nothing else")
        if descriptor.float_denorm_32 != 3 or descriptor.float_denorm_16_64 != 3:
            raise UnsupportedError(f"{self.code.name} flushes denormals; the emulator keeps them")
        if descriptor.fp16_overflow:
            raise UnsupportedError(f"{self.code.name} saturates what overflows; the emulator makes it infinite")
        touched = (_touched(s) & ((1 << SCC) - 1) for s in self.steps.values())
        used = max(bits.bit_length() for bits in touched) - VECTOR
        if used > self._registers:
            what = f"{self.code.name} uses {used} vector registers; its descriptor gives it {self._registers}"
            raise EmulationError(what, kind=OUT_OF_BOUNDS)
        if self.threads % self.code.wave:
            raise UnsupportedError(f"{self.threads} threads are no whole waves of {self.code.wave}")

    def _fits(self) -> None:
        """What a launch asks for is within what a device has: a descriptor may ask for anything."""
        code = self.code
        for what, asked, limit in (
            ("threads in a workgroup", self.threads, MAX_THREADS),
            ("bytes of LDS", self.lds, MAX_LDS.get(code.arch, 64 << 10)),
            ("bytes of scratch a wave", code.scratch * code.wave, MAX_SCRATCH),
            ("vector registers", self._registers, 2 * ACC),
        ):
            if asked > limit:
                told = f"{code.name} asks for {asked} {what}; {code.arch} has {limit}"
                raise EmulationError(told, kind=OUT_OF_BOUNDS)

    @property
    def _registers(self) -> int:
        """Vector registers of a lane; accumulation registers follow the 256 ordinary ones."""
        return ACC + self.code.agprs if self.code.agprs else self.code.descriptor.vgprs

    def _batches(self) -> Iterator[np.ndarray]:
        """Indices of the workgroups that run together."""
        total = self.grid[0] * self.grid[1] * self.grid[2]
        together = max(1, BATCH_LANES // self.threads)
        for first in range(0, total, together):
            yield np.arange(first, min(first + together, total))

    def start(self, groups: np.ndarray) -> Waves:
        """The waves of `groups` before their first instruction."""
        code, lanes = self.code, self.code.wave
        per_group = self.threads // lanes
        n = len(groups) * per_group
        waves = Waves(
            ids=(groups[:, None] * per_group + np.arange(per_group)).reshape(-1),
            group=np.repeat(np.arange(len(groups)), per_group),
            lanes=lanes,
            vgpr=np.full((self._registers, n, lanes), POISON, np.uint32),
            sgpr=np.full((128, n, 1), POISON, np.uint32),
            scc=np.zeros((n, 1), np.uint32),
            memory=self.memory,
            lds=Lds(len(groups), self.lds, check_races=self.check_races),
            scratch=Scratch(n, lanes, code.scratch),
            pc=code.preloaded_entry,
        )
        if self.meter is not None:
            self.meter.watch(waves)
        waves.sgpr[EXEC], waves.sgpr[EXEC + 1] = 0xFFFFFFFF, 0xFFFFFFFF if lanes == 64 else 0
        waves.exec_changed()
        waves.defined |= 3 << EXEC
        self._scalars(waves, groups, per_group)
        self._vectors(waves, per_group)
        return waves

    def _scalars(self, waves: Waves, groups: np.ndarray, per_group: int) -> None:
        at = 0
        for name, size in self.code.descriptor.user_sgprs():
            value = self._user(name, size)
            for offset in range(size):
                if value is not None:
                    self._set(waves, at + offset, value[offset])
            at += size
        x, y, z = np.unravel_index(groups, self.grid, order="F")
        ids = {
            "workgroup_id_x": x, "workgroup_id_y": y, "workgroup_id_z": z,
            "workgroup_info": None, "private_segment_wave_offset": np.zeros_like(x),
        }  # fmt: skip
        for name, size in self.code.descriptor.system_sgprs():
            value = ids[name]
            if value is not None:
                self._set(waves, at, np.repeat(value, per_group)[:, None])
            at += size
        if self.code.descriptor.workgroup_ids_in_ttmp:
            self._set(waves, TTMP9, np.repeat(x, per_group)[:, None])
            self._set(waves, TTMP7, np.repeat(y | (z << 16), per_group)[:, None])
            self._set(waves, TTMP8, np.tile(np.arange(per_group) << 25, len(groups))[:, None])

    def _user(self, name: str, size: int) -> np.ndarray | None:
        """The dwords of a user SGPR; None for those that hold nothing a Triton kernel may read."""
        if name == "kernarg_segment_ptr":
            return np.array([self.arguments.ctypes.data], np.uint64).view(np.uint32)
        if name == "kernarg_preload":
            words = self.arguments.view(np.uint32)
            first = self.code.descriptor.preload_offset
            return words[first : first + size]
        if name in ("private_segment_buffer", "flat_scratch_init", "private_segment_size") and self.code.scratch:
            return self._scratch(name)
        return None

    def _scratch(self, name: str) -> np.ndarray:
        if name == "private_segment_buffer":
            return np.array(Scratch.RESOURCE, np.uint32)
        return np.array([self.code.scratch if name == "private_segment_size" else 0, 0], np.uint32)

    def _vectors(self, waves: Waves, per_group: int) -> None:
        """v0 has the thread's id; the kernels of Triton are one-dimensional."""
        thread = np.arange(self.threads, dtype=np.uint32).reshape(per_group, waves.lanes)
        waves.vgpr[0] = np.tile(thread, (waves.n // per_group, 1))
        waves.defined |= 1 << VECTOR

    @staticmethod
    def _set(waves: Waves, index: int, value: np.ndarray) -> None:
        waves.sgpr[index] = value
        waves.defined |= 1 << index


def _touched(step: Bound) -> int:
    """The registers of a step, as bits of `Waves.defined`."""
    bits = step.needs | step.gives
    for needs, gives in step.passes:
        bits |= needs | gives
    return bits
