"""Single memory instructions, assembled and run on a state: the harness of the memory tests."""

from __future__ import annotations

import numpy as np
from amdgcn.assembled import assemble, waves

from forge.amdgcn.code.decode import decode_all
from forge.amdgcn.instructions.access import bind
from forge.amdgcn.state.memory import Memory
from forge.amdgcn.state.waves import Waves

LIKE = {"gfx90a": "gfx942", "gfx950": "gfx942", "gfx1151": "gfx1100"}  # of the same lanes
RESOURCE = {"gfx9": 0x27000, "gfx11": 0x31004000, "gfx12": 0x31004000}  # flags of a raw buffer


def state(arch: str, n: int = 3, **kinds: object) -> Waves:
    """`n` waves with noise in their registers and every third lane off; `full=True`: every lane on."""
    full = kinds.pop("full", False)
    on = [0x5B6DB6DB6DB6DB6D, 0xFFFFFFFF0FFFFFF0, 0x8000000180000001] * n
    return waves(LIKE.get(arch, arch), n, registers=512, exec=-1 if full else np.array(on[:n], object), **kinds)


def run(arch: str, line: str, w: Waves) -> None:
    """Run the memory instructions of `line`."""
    with np.errstate(all="ignore"):
        for instruction in decode_all(assemble(arch, line), arch, w.lanes).values():
            execute = bind(instruction, arch)
            if execute is not None:
                execute(w)


def put_address(w: Waves, register: int, address: np.ndarray) -> None:
    """A 64-bit address a lane in two vector registers."""
    wide = np.broadcast_to(address, (w.n, w.lanes)).astype(np.uint64)
    w.vgpr[register], w.vgpr[register + 1] = wide.astype(np.uint32), (wide >> np.uint64(32)).astype(np.uint32)


def put_scalar(w: Waves, register: int, *values: int) -> None:
    """Scalar registers from `register` on, the same in all waves."""
    for i, value in enumerate(values):
        w.sgpr[register + i] = value & 0xFFFFFFFF


def put_resource(w: Waves, arch: str, register: int, base: int, records: int, stride: int = 0, flags: int = 0) -> None:
    raw = RESOURCE[arch[:-2]]
    put_scalar(w, register, base, base >> 32 | stride << 16, records, flags or raw)


def mapped(size: int, seed: int = 3) -> tuple[Memory, np.ndarray, int]:
    """Memory with one tensor of `size` random bytes, the tensor, its address (16-aligned)."""
    room = np.random.default_rng(seed).integers(0, 256, size + 16, dtype=np.uint8)
    start = -room.ctypes.data % 16
    memory = Memory()
    tensor = room[start : start + size]
    return memory, tensor, memory.map(tensor, "x")
