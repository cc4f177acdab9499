"""Lines of assembly run on the emulated machine: the harness of the instruction tests."""

from __future__ import annotations

import re
import struct
from functools import lru_cache

import numpy as np

from forge.amdgcn.code.instruction import EXEC, VCC
from forge.amdgcn.machine.lockstep import run_text
from forge.amdgcn.state.lds import Lds
from forge.amdgcn.state.memory import Memory, Scratch
from forge.amdgcn.state.waves import Waves

try:
    from triton.backends.amd.compiler import assemble_amdgcn
except ImportError:  # before Triton 3.9
    from triton._C.libtriton import llvm
    from triton._C.libtriton.amd import assemble_amdgcn

    llvm.init_targets()

ARCHS = ("gfx942", "gfx1100", "gfx1201")
LANES = {"gfx942": 64, "gfx1100": 32, "gfx1201": 32}
M0 = {"gfx942": 124, "gfx1100": 125, "gfx1201": 125}


@lru_cache(None)
def assemble(arch: str, lines: str) -> bytes:
    """The machine code of `lines`, with an s_endpgm after them."""
    source = f'.amdgcn_target "amdgcn-amd-amdhsa--{arch}"\n.text\n{lines}\ns_endpgm\n'
    halves = "+real-true16" if re.search(r"\bv\d+\.[lh]\b", lines) else ""  # the default only from Triton 3.9 on
    return _section(assemble_amdgcn(source, arch, halves), b".text")


def _section(elf: bytes, wanted: bytes) -> bytes:
    """The bytes of an ELF64 section. Source: System V ABI, "Sections"."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    entry, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, table + i * entry) for i in range(count)]
    strings = headers[names][4]
    for name, _, _, _, offset, size, *_ in headers:
        if elf[strings + name : elf.index(b"\0", strings + name)] == wanted:
            return elf[offset : offset + size]
    raise LookupError(wanted)


def waves(
    arch: str,
    n: int = 2,
    *,
    registers: int = 32,
    exec: int | np.ndarray = -1,
    vcc: int | np.ndarray = 0,
    lds: int = 0,
    groups: int = 1,
    scratch: int = 0,
    memory: Memory | None = None,
) -> Waves:
    """`n` waves, dealt to `groups` workgroups in turn, whose registers all hold noise and count as written."""
    lanes = LANES[arch]
    rng = np.random.default_rng(7)
    state = Waves(
        ids=np.arange(n),
        group=np.arange(n) * groups // n,
        lanes=lanes,
        vgpr=rng.integers(0, 1 << 32, (registers, n, lanes), dtype=np.uint32),
        sgpr=rng.integers(0, 1 << 32, (128, n, 1), dtype=np.uint32),
        scc=rng.integers(0, 2, (n, 1), dtype=np.uint32),
        memory=memory or Memory(),
        lds=Lds(groups, lds),
        scratch=Scratch(n, lanes, scratch),
        defined=(1 << 641) - 1,
    )
    for index, bits in ((EXEC, exec), (VCC, vcc)):  # not by the machine's own write of a mask, which is to be tested
        mask = lane_mask(bits, n, lanes)
        state.sgpr[index] = mask.astype(np.uint32)
        if lanes == 64:
            state.sgpr[index + 1] = (mask >> np.uint64(32)).astype(np.uint32)
    if lanes == 32:  # the upper halves do not count there; nothing may read them
        state.sgpr[EXEC + 1] = 0
    state.exec_changed()
    return state


def lane_mask(bits: int | np.ndarray, n: int, lanes: int) -> np.ndarray:
    """uint64[n, 1] of one mask for all waves, or of one each."""
    bits = [int(b) & ((1 << lanes) - 1) for b in np.broadcast_to(np.asarray(bits, object).reshape(-1), (n,))]
    return np.array(bits, np.uint64)[:, None]


def execute(arch: str, lines: str, state: Waves) -> Waves:
    """Run `lines` to their end. All of `state`'s waves, in their order."""
    done = run_text(arch, assemble(arch, lines), state)
    return done if done is not None else state
