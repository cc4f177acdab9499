"""An instruction's encoding and its bit fields, under one naming for all families."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forge.amdgcn.code.instruction import signed
from forge.amdgcn.code.tables import family
from forge.amdgcn.code.variants import DPP8_INACTIVE_TOO

_NAMES = {"clmp": "clamp", "ioffset": "offset"}
_SIGNED_OFFSETS = {  # their bits, by family and encoding; an offset that is not here is unsigned
    ("cdna", "GLOBAL"): 13, ("cdna", "SCRATCH"): 13, ("cdna", "SMEM"): 21,
    ("rdna3", "FLAT"): 13, ("rdna3", "GLOBAL"): 13, ("rdna3", "SCRATCH"): 13, ("rdna3", "SMEM"): 21,
    ("rdna4", "VFLAT"): 24, ("rdna4", "VGLOBAL"): 24, ("rdna4", "VSCRATCH"): 24, ("rdna4", "VBUFFER"): 24,
    ("rdna4", "SMEM"): 24,
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """What the operands of an instruction are read by: its name, encoding and bits."""

    name: str
    encoding: str  # without _LIT, _DPP16, _SDWA
    arch: str
    wave: int  # lanes
    bits: Mapping[str, int]  # every field of the encoding, those of operands included, by the tables' names; unsigned

    @property
    def family(self) -> str:
        return family(self.arch)


def form_of(raw: Any, name: str, arch: str, wave: int) -> Form:
    """`raw` is the tables' own instruction; of a dual one, `name` is that of one half."""
    encoding = re.sub(r"(_SDST)?(_LIT|_DPP16|_DPP8|_SDWA|_MFMA)?(_SDST)?$", "", type(raw).__name__)
    return Form(name, encoding, arch, wave, {n: (raw._raw >> f.lo) & f.mask for n, f in raw._fields})


def fields_of(raw: Any, form: Form) -> dict[str, int]:
    """The fields that are neither operand nor opcode, signed offsets as such."""
    from tinygrad.renderer.amd.dsl import BitField, EnumBitField, FixedBitField, SrcField

    found = {
        _NAMES.get(name, name): form.bits[name]
        for name, field in raw._fields
        if type(field) is BitField and not isinstance(field, EnumBitField | FixedBitField | SrcField)
    }
    offset_bits = _SIGNED_OFFSETS.get((form.family, form.encoding))
    if offset_bits and "offset" in found:
        found["offset"] = signed(found["offset"], offset_bits)
    if "lane_sel_0" in found:  # DPP8: the code of the first source tells whether inactive lanes are read
        found["fi"] = int(form.bits["src0"] == DPP8_INACTIVE_TOO)
    if "opsel_hi2" in found:
        found["opsel_hi"] |= found.pop("opsel_hi2") << 2
    return found
