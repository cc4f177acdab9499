"""The kernel descriptor: 64 bytes from which the command processor sets up the registers of a wave.

Source: LLVM, "User Guide for AMDGPU Backend" (AMDGPUUsage), sections "Kernel Descriptor" and "Initial Kernel Execution
State"; the order of the fields is that of LLVM's AMDHSAKernelDescriptor.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from forge.amdgcn.code.wire import malformed


def instruction_set(arch: str) -> str:
    """The instruction set of an architecture: "cdna", "rdna3" or "rdna4"."""
    return "rdna4" if arch.startswith("gfx12") else "rdna3" if arch.startswith("gfx11") else "cdna"


@dataclass(frozen=True)
class Descriptor:
    """The 64-byte kernel descriptor. Sizes in bytes; fields that an architecture lacks are None.

    Round modes: 0 nearest even, 1 up, 2 down, 3 to zero. Denormal modes: bit 0 keeps those of sources, bit 1 those of
    results (3 keeps all). `workitem_id` is 0 for x, 1 for x y, 2 for x y z; all architectures here pack them in v0 as
    x | y << 10 | z << 20.
    """

    arch: str
    lds: int
    scratch: int  # of one lane
    kernarg_size: int
    entry_offset: int  # of the kernel's first instruction, from the descriptor's own address
    # compute_pgm_rsrc1
    vgprs: int  # allocated: vector registers of a lane, AGPRs included
    sgprs: int | None  # allocated; from gfx10 on every wave has 128
    priority: int
    float_round_32: int
    float_round_16_64: int
    float_denorm_32: int
    float_denorm_16_64: int
    dx10_clamp: bool | None
    ieee_mode: bool | None
    fp16_overflow: bool
    workgroup_processor: bool | None  # waves may be on either CU of a pair
    memory_ordered: bool | None
    forward_progress: bool | None
    # compute_pgm_rsrc2
    private_segment: bool  # scratch is set up
    user_sgpr_count: int
    workgroup_id_x: bool
    workgroup_id_y: bool
    workgroup_id_z: bool
    workgroup_info: bool
    workitem_id: int
    exceptions: int  # a bit each: invalid, denormal source, / 0, overflow, underflow, inexact, integer / 0
    # compute_pgm_rsrc3
    accum_offset: int | None  # the first AGPR's place among the vector registers
    threadgroup_split: bool | None
    shared_vgprs: int | None
    prefetch_lines: int | None  # of 128 bytes of code
    # kernel_code_properties and kernarg_preload
    private_segment_buffer: bool
    dispatch_ptr: bool
    queue_ptr: bool
    kernarg_segment_ptr: bool
    dispatch_id: bool
    flat_scratch_init: bool
    private_segment_size: bool
    wave: int
    dynamic_stack: bool
    preload_length: int  # dwords of arguments that are in user SGPRs when a wave starts
    preload_offset: int  # the first one's place among the arguments, in dwords

    @property
    def architected_scratch(self) -> bool:
        """FLAT_SCRATCH is set by hardware: no SGPR describes the private segment (gfx940 on, gfx11 on)."""
        return self.arch != "gfx90a"

    @property
    def workgroup_ids_in_ttmp(self) -> bool:
        """x is ttmp9, y the low and z the high half of ttmp7, the wave's number bits 29:25 of ttmp8 (gfx12)."""
        return instruction_set(self.arch) == "rdna4"

    def user_sgprs(self) -> tuple[tuple[str, int], ...]:
        """(name, dwords) of the user SGPRs from s0 up; "unused" ones fill up to `user_sgpr_count`.

        gfx1100 pads them so that user and system SGPRs are 16.
        """
        named = self._named_sgprs()
        unused = self.user_sgpr_count - sum(size for _, size in named)
        return (*named, ("unused", unused)) if unused else named

    def system_sgprs(self) -> tuple[tuple[str, int], ...]:
        """(name, dwords) of the system SGPRs, in order from s[user_sgpr_count] up."""
        ids = not self.workgroup_ids_in_ttmp
        order = (
            ("workgroup_id_x", ids and self.workgroup_id_x),
            ("workgroup_id_y", ids and self.workgroup_id_y),
            ("workgroup_id_z", ids and self.workgroup_id_z),
            ("workgroup_info", self.workgroup_info),
            ("private_segment_wave_offset", self.private_segment and not self.architected_scratch),
        )
        return tuple((name, 1) for name, enabled in order if enabled)

    def _named_sgprs(self) -> tuple[tuple[str, int], ...]:
        order = (
            ("private_segment_buffer", 4 * self.private_segment_buffer),
            ("dispatch_ptr", 2 * self.dispatch_ptr),
            ("queue_ptr", 2 * self.queue_ptr),
            ("kernarg_segment_ptr", 2 * self.kernarg_segment_ptr),
            ("dispatch_id", 2 * self.dispatch_id),
            ("flat_scratch_init", 2 * self.flat_scratch_init),
            ("private_segment_size", int(self.private_segment_size)),
            ("kernarg_preload", self.preload_length),
        )
        return tuple((name, size) for name, size in order if size)


def read_descriptor(raw: bytes, arch: str, at: int) -> Descriptor:
    """The descriptor in 64 bytes at address `at`. Raises FileFormatError if its user SGPRs do not add up."""
    lds, scratch, kernarg, entry, rsrc3, rsrc1, rsrc2, properties, preload = struct.unpack("<III4xq20xIIIHH4x", raw)
    cdna, gfx12 = instruction_set(arch) == "cdna", instruction_set(arch) == "rdna4"
    wave = 32 if properties >> 10 & 1 and not cdna else 64

    def flag(word: int, bit: int) -> bool:
        return bool(word >> bit & 1)

    found = Descriptor(
        arch=arch,
        lds=lds,
        scratch=scratch,
        kernarg_size=kernarg,
        entry_offset=entry,
        vgprs=((rsrc1 & 63) + 1) * (8 if cdna or wave == 32 else 4),
        sgprs=((rsrc1 >> 6 & 15) // 2 + 1) * 16 if cdna else None,
        priority=rsrc1 >> 10 & 3,
        float_round_32=rsrc1 >> 12 & 3,
        float_round_16_64=rsrc1 >> 14 & 3,
        float_denorm_32=rsrc1 >> 16 & 3,
        float_denorm_16_64=rsrc1 >> 18 & 3,
        dx10_clamp=None if gfx12 else flag(rsrc1, 21),
        ieee_mode=None if gfx12 else flag(rsrc1, 23),
        fp16_overflow=flag(rsrc1, 26),
        workgroup_processor=None if cdna else flag(rsrc1, 29),
        memory_ordered=None if cdna else flag(rsrc1, 30),
        forward_progress=None if cdna else flag(rsrc1, 31),
        private_segment=flag(rsrc2, 0),
        user_sgpr_count=rsrc2 >> 1 & 31,
        workgroup_id_x=flag(rsrc2, 7),
        workgroup_id_y=flag(rsrc2, 8),
        workgroup_id_z=flag(rsrc2, 9),
        workgroup_info=flag(rsrc2, 10),
        workitem_id=rsrc2 >> 11 & 3,
        exceptions=rsrc2 >> 24 & 127,
        accum_offset=((rsrc3 & 63) + 1) * 4 if cdna else None,
        threadgroup_split=flag(rsrc3, 16) if cdna else None,
        shared_vgprs=None if cdna or gfx12 else (rsrc3 & 15) * 8,
        prefetch_lines=None if cdna else rsrc3 >> 4 & (255 if gfx12 else 63),
        private_segment_buffer=flag(properties, 0),
        dispatch_ptr=flag(properties, 1),
        queue_ptr=flag(properties, 2),
        kernarg_segment_ptr=flag(properties, 3),
        dispatch_id=flag(properties, 4),
        flat_scratch_init=flag(properties, 5),
        private_segment_size=flag(properties, 6),
        wave=wave,
        dynamic_stack=flag(properties, 11),
        preload_length=preload & 127 if cdna else 0,
        preload_offset=preload >> 7 if cdna else 0,
    )
    named = sum(size for _, size in found._named_sgprs())
    if named > found.user_sgpr_count:
        malformed(f"the descriptor enables {named} user SGPRs and counts {found.user_sgpr_count}", at)
    if 4 * (found.preload_offset + found.preload_length) > kernarg + 3:  # the last dword may be partly beyond
        malformed(f"the descriptor preloads beyond the {kernarg} bytes of arguments", at)
    return found
