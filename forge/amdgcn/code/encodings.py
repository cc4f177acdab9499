"""Operands and fields of a decoded instruction, under one naming for all families.

The tables know each encoding's fields and each operand's width and type; what is added here are the roles of operands,
constants, accumulation registers, halves of registers, and operands that have no field.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any

from forge.amdgcn.code.instruction import Operand
from forge.amdgcn.code.tables import family

_ROLES = {
    "src0": "S0", "vsrc0": "S0", "ssrc0": "S0", "src1": "S1", "vsrc1": "S1", "ssrc1": "S1", "src2": "S2",
    "vdst": "D0", "sdst": "D0", "sdata": "D0", "data": "DATA", "vdata": "DATA", "data0": "DATA", "vsrc": "DATA",
    "data1": "DATA2", "addr": "ADDR", "vaddr": "ADDR", "saddr": "SADDR", "srsrc": "SRSRC", "rsrc": "SRSRC",
    "soffset": "SOFFSET", "sbase": "SBASE",
}  # fmt: skip
_FIELDS = {"clmp": "clamp", "ioffset": "offset"}
_SIGNED = {("rdna3", "FLAT"): 13, ("rdna3", "GLOBAL"): 13, ("rdna3", "SCRATCH"): 13, ("rdna3", "SMEM"): 21,
           ("cdna", "GLOBAL"): 13, ("cdna", "SCRATCH"): 13, ("cdna", "SMEM"): 21, ("rdna4", "SMEM"): 24,
           ("rdna4", "VGLOBAL"): 24, ("rdna4", "VFLAT"): 24, ("rdna4", "VSCRATCH"): 24, ("rdna4", "VBUFFER"): 24,
           }  # fmt: skip
INLINE_FLOATS = dict(enumerate((0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 4.0, -4.0, 0.5 / math.pi), 240))  # by their codes


def encoding_of(raw: Any) -> str:
    return re.sub(r"(_SDST)?(_LIT|_DPP16|_DPP8|_SDWA|_MFMA)?(_SDST)?$", "", type(raw).__name__)


def fields_of(raw: Any, kind: str) -> dict[str, int]:
    from tinygrad.renderer.amd.dsl import BitField, EnumBitField, FixedBitField, SrcField

    given = {}
    for name, bits in raw._fields:
        if type(bits) is BitField and not isinstance(bits, EnumBitField | FixedBitField | SrcField):
            given[_FIELDS.get(name, name)] = (raw._raw >> bits.lo) & bits.mask
    width = _SIGNED.get((kind, encoding_of(raw)))
    if width and "offset" in given:
        given["offset"] = (given["offset"] ^ 1 << width - 1) - (1 << width - 1)
    if "opsel_hi2" in given:
        given["opsel_hi"] |= given.pop("opsel_hi2") << 2
    return given


def operands_of(raw: Any, name: str, arch: str, wave: int) -> dict[str, Operand]:
    from tinygrad.renderer.amd.dsl import BitField, SrcField

    kind, encoding, table = family(arch), encoding_of(raw), raw.operands
    fields = {n: (raw._raw >> f.lo) & f.mask for n, f in raw._fields}
    found: dict[str, Operand] = {}
    dpp_or_sdwa = "vsrc0" in fields
    for field_name, bits in raw._fields:
        role = _ROLES.get(field_name)
        if role is None or (field_name == "src0" and dpp_or_sdwa):
            continue
        entry = next((table[n] for n in (field_name, "v" + field_name, field_name[1:]) if n in table), None)
        if entry is None:
            continue
        format, width, _ = entry
        width = raw.op_bits.get(field_name, width)
        if role == "ADDR" and "saddr" in fields and encoding not in ("SCRATCH", "VSCRATCH"):
            flat = encoding in ("FLAT", "VFLAT")
            width = 64 if flat or _absent("SADDR", fields["saddr"], fields, kind) else 32
        type = format.name.removeprefix("FMT_").removeprefix("NUM_").lower()
        if type == "m64":
            width = wave
        code = fields[field_name]
        if isinstance(bits, SrcField):
            code += bits._valid_range[0]
            if role == "D0" and code >= 256 and entry[2].name.startswith("OPR_SREG"):
                code -= 256  # v_readfirstlane of CDNA: a vector field that holds a scalar's number
            if code >= 256 and fields.get({"vsrc0": "s0", "vsrc1": "s1"}.get(field_name, "")):
                code -= 256  # SDWA: a flag says that the source is a scalar
        elif field_name in ("srsrc", "sbase"):
            code <<= 2 if field_name == "srsrc" else 1
        elif not isinstance(bits, BitField):
            continue
        if role == "DATA" and encoding in ("MUBUF", "MTBUF", "VBUFFER") and "load" in name:
            role = "D0"
        if role == "D0" and field_name == "sdst" and encoding == "VOP3SD":
            role = "SDST"
        if name.startswith("s_cmpk"):
            role = "S0"  # the field of the destination names what is compared
        if role == "S2" and type == "m64":
            role = "VCC"
        if role in ("SADDR", "SOFFSET") and _absent(role, code, fields, kind):
            continue
        found[role] = operand_of(raw, role, code, width, type, kind, encoding, fields, entry[2].name)
    add_implicit(found, name, encoding, fields, wave)
    if encoding in ("MUBUF", "VBUFFER") and "atomic" in name and "DATA" in found:
        found["D0"] = Operand("D0", *_rest(found["DATA"]))
    if "_atomic_" in name and not (fields.get("sc0") or fields.get("glc") or fields.get("th", 0) & 1):
        found.pop("D0", None)  # the old value is not given back
    if encoding in ("MUBUF", "VBUFFER", "MTBUF") and not (fields.get("offen") or fields.get("idxen")):
        found.pop("ADDR", None)
    if encoding in ("FLAT", "VFLAT"):
        found.pop("SADDR", None)
    if (
        encoding in ("SCRATCH", "VSCRATCH")
        and not fields.get("sve")
        and not (arch == "gfx90a" and "SADDR" not in found)
    ):
        found.pop("ADDR", None)
    if fields.get("lds") or "_load_lds_" in name:
        found.pop("D0", None)  # the data goes to LDS
    return found


def _rest(operand: Operand) -> tuple[Any, ...]:
    return operand.file, operand.index, operand.count, operand.bits, operand.type


def _absent(role: str, code: int, fields: dict[str, int], kind: str) -> bool:
    """Whether a scalar address or offset is written `off` or `null`."""
    if role == "SOFFSET" and kind == "cdna" and "soffset_en" in fields:
        return not fields["soffset_en"]
    if role == "SADDR" and kind == "cdna":
        return code == 0x7F
    return code == 124 and kind != "cdna"


def operand_of(
    raw: Any, role: str, code: int, width: int, type: str, kind: str, encoding: str, fields: dict[str, int], where: str
) -> Operand:
    count = max(1, (width + 31) // 32)
    half = 0
    if code >= 256:
        index, file = code - 256, "v"
        if width == 16 and kind != "cdna" and encoding in ("VOP1", "VOP2", "VOPC"):
            index, half = index & 127, index >> 7  # true16: the top bit of the register's number chooses the half
        elif width == 16 and encoding in ("VOP3", "VOP3SD"):
            half = fields.get("opsel", 0) >> {"S0": 0, "S1": 1, "S2": 2, "D0": 3}[role] & 1
        if _accumulates(role, where, encoding, fields):
            file = "a"
        return Operand(role, file, index, count, width, type, half=half)
    if 128 <= code <= 208:
        number = code - 128 if code <= 192 else 192 - code
        return Operand(role, "const", code, count, width, type, number & (1 << max(width, 32)) - 1)
    if code in INLINE_FLOATS:
        return Operand(role, "const", code, count, width, type, inline_float(code, type))
    if code == 255:
        literal = fields.get("literal", 0)
        if type == "f64":
            literal <<= 32
        elif width == 64 and type in ("i64", "b64", "u64") and literal >> 31 and type == "i64":
            literal |= 0xFFFFFFFF << 32
        return Operand(role, "const", code, count, width, type, literal)
    if width == 16 and encoding == "VOP3":
        half = fields.get("opsel", 0) >> {"S0": 0, "S1": 1, "S2": 2, "D0": 3}.get(role, 0) & 1
    return Operand(role, "s", code, count, width, type, half=half)


def inline_float(code: int, type: str) -> int:
    """The bits of an inline constant, 240 (0.5) to 248 (1 / 2 pi), for an operand of `type`."""
    number = INLINE_FLOATS[code]
    base = re.sub(r"^(pk\d+_|wmma_\w+_)", "", type)
    if base == "bf16":  # the upper half of the float, not rounded
        return int.from_bytes(struct.pack("<f", number)[2:], "little")
    form = {"f16": "<e", "f64": "<d", "b64": "<d", "u64": "<d", "i64": "<d"}.get(base, "<f")
    return int.from_bytes(struct.pack(form, number), "little")


def _accumulates(role: str, where: str, encoding: str, fields: dict[str, int]) -> bool:
    """Whether a vector operand is an accumulation register (CDNA)."""
    if where in ("OPR_SRC_ACCVGPR", "OPR_ACCVGPR"):
        return True
    if "ACCVGPR" not in where:
        return False
    if "acc_cd" in fields:
        return bool(fields["acc"] >> ("S0", "S1").index(role) & 1 if role in ("S0", "S1") else fields["acc_cd"])
    return bool(fields.get("acc"))


def add_implicit(found: dict[str, Operand], name: str, encoding: str, fields: dict[str, int], wave: int) -> None:
    """Operands that have no field: VCC of comparisons, carries and conditions, and the immediates."""
    mask = (wave // 32, wave, "m64")
    if encoding == "VOPC":
        index = fields["sdst"] if fields.get("sd") else 106
        found["D0"] = Operand("D0", "s", 126 if name.startswith("v_cmpx") else index, *mask)
    if encoding in ("VOP2", "VOP3SD", "VOP3", "VOP1"):
        if "VCC" not in found and (
            "cndmask" in name or "_co_ci_" in name or "addc_co" in name or "subb" in name or "div_fmas" in name
        ):
            found["VCC"] = Operand("VCC", "s", 106, *mask)
        if encoding == "VOP2" and "_co_" in name:
            found["SDST"] = Operand("SDST", "s", 106, *mask)
    for field_name, role in (("simm16", "SIMM16"), ("literal", "SIMM32")):
        if field_name in fields:
            found[role] = Operand(role, "const", 0, 1, 32, "b32", fields[field_name])
