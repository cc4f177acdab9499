"""Devices as the compiler sees them: one `DeviceTarget` an architecture id.

Numbers are of the fullest part of each architecture, from the vendors' data sheets and ISA documents. The devices at
hand (`forge.lower.gpu`) have their own count of compute units, bandwidth and rate of products. Code branches on these
fields, never on a product's name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceTarget:
    """An architecture. `kind` is "gpu" or "cpu"; `backend` is Triton's name for the maker ("hip", "cuda", "")."""

    arch: str
    kind: str
    backend: str
    wave: int  # lanes that run in lockstep
    lds: int  # bytes of LDS (shared memory) one workgroup may hold
    compute_units: int  # CUs, or SMs
    xcds: int  # dies that keep an L2 of their own
    gbps: float  # memory bandwidth, GB/s
    tflops: float  # dense fp16 with fp32 accumulation, TFLOP/s

    def __str__(self) -> str:
        return self.arch

    @property
    def int_dot(self) -> str:
        """Which instruction multiplies four int8 pairs: the name the quantized kernels branch on."""
        if self.backend == "cuda":
            return "dp4a"
        if self.backend == "hip":
            return "v_dot4_i32_i8" if self.wave == 64 else "v_dot4_i32_iu8"
        return "plain"

    @property
    def dependent_launch(self) -> bool:
        """Whether a kernel may start while the launch before it ends, and wait for it: NVIDIA's, from Hopper on."""
        return self.backend == "cuda" and self.arch not in ("sm_80", "sm_86", "sm_89")

    @property
    def warp_groups(self) -> bool:
        """Whether four warps together multiply tiles of 64 rows, of which a lane holds columns 0 1 8 9: Hopper's do."""
        return self.arch == "sm_90"

    @property
    def unpacks_fp8(self) -> bool:
        """Whether PTX turns two e4m3 into two f16 at once."""
        return self.backend == "cuda" and self.arch not in ("sm_80", "sm_86")

    @property
    def flushes_halves(self) -> bool:
        """Whether matrix instructions take fp16 and bf16 denormals for zeros, as those of CDNA2 do."""
        return self.arch == "gfx90a"


def _gpu(arch: str, wave: int, lds_kb: int, cus: int, xcds: int, gbps: float, tflops: float) -> DeviceTarget:
    backend = "hip" if arch.startswith("gfx") else "cuda"
    return DeviceTarget(arch, "gpu", backend, wave, lds_kb * 1024, cus, xcds, gbps, tflops)


TARGETS: dict[str, DeviceTarget] = {
    t.arch: t
    for t in (
        _gpu("gfx90a", 64, 64, 104, 1, 1638, 191),
        _gpu("gfx942", 64, 64, 304, 8, 5300, 1307),
        _gpu("gfx950", 64, 160, 256, 8, 8000, 2300),
        _gpu("gfx1100", 32, 64, 96, 1, 960, 123),
        _gpu("gfx1101", 32, 64, 60, 1, 624, 75),
        _gpu("gfx1102", 32, 64, 32, 1, 288, 43),
        _gpu("gfx1150", 32, 64, 16, 1, 120, 24),
        _gpu("gfx1151", 32, 64, 40, 1, 256, 59),
        _gpu("gfx1200", 32, 64, 32, 1, 320, 97),
        _gpu("gfx1201", 32, 64, 64, 1, 640, 195),
        _gpu("sm_80", 32, 163, 108, 1, 2039, 312),
        _gpu("sm_86", 32, 99, 84, 1, 936, 142),
        _gpu("sm_89", 32, 99, 128, 1, 1008, 165),
        _gpu("sm_90", 32, 227, 132, 1, 4800, 989),
        _gpu("sm_100", 32, 227, 148, 2, 8000, 2250),
        _gpu("sm_120", 32, 99, 170, 1, 1792, 210),
        DeviceTarget("cpu", "cpu", "", 1, 0, 1, 1, 50, 1),
    )
}
AMD_VERIFIED = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1151", "gfx1201")
