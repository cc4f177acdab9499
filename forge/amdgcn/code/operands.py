"""The operands of a decoded instruction, by role.

The tables know each encoding's fields and each operand's width and type. What is added here: the roles, what a field
means in one encoding and not in another, operands that have no field, and those whose field is not used.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from forge.amdgcn.code.constants import constant
from forge.amdgcn.code.encodings import Form
from forge.amdgcn.code.instruction import EXEC, NULL, VCC, Operand

_ROLES = {
    "src0": "S0", "vsrc0": "S0", "ssrc0": "S0", "src1": "S1", "vsrc1": "S1", "ssrc1": "S1", "src2": "S2",
    "vdst": "D0", "sdst": "D0", "sdata": "D0", "data": "DATA", "vdata": "DATA", "data0": "DATA", "vsrc": "DATA",
    "data1": "DATA2", "addr": "ADDR", "vaddr": "ADDR", "saddr": "SADDR", "srsrc": "SRSRC", "rsrc": "SRSRC",
    "soffset": "SOFFSET", "sbase": "SBASE",
}  # fmt: skip
_BUFFER, _FLAT, _SCRATCH = ("MUBUF", "MTBUF", "VBUFFER"), ("FLAT", "VFLAT"), ("SCRATCH", "VSCRATCH")
_HALVES = ("S0", "S1", "S2", "D0")  # the order of op_sel's bits
_CHOOSES = re.compile(r"v_cvt_(pk|sr)_(fp8|bf8)_f32|v_cvt_scalef32_")  # whose meaning reads op_sel itself
VECTOR = 256  # codes from here on are vector registers


def operands_of(raw: Any, form: Form) -> dict[str, Operand]:
    """The operands of the tables' own instruction `raw`."""
    found: dict[str, Operand] = {}
    for name, field in raw._fields:
        operand = _operand_in(raw, form, name, field)
        if operand is not None:
            found[operand.role] = operand
    found |= implicit(form, found)
    _drop_unused(found, form)
    return found


def operand(form: Form, role: str, code: int, bits: int, type: str, where: str = "") -> Operand:
    """What `code` names: 0 to 127 and 251 to 253 scalars, 256 on vector registers, others constants.

    `where` is the tables' name for what may stand there (OPR_ACCVGPR ...).
    """
    count = max(1, (bits + 31) // 32)
    if code >= VECTOR:
        index, half = code - VECTOR, _half(form, role, bits)
        if bits == 16 and form.family != "cdna" and form.encoding in ("VOP1", "VOP2", "VOPC"):
            index, half = index & 127, index >> 7  # true16: the top bit of the register's number chooses the half
        return Operand(role, "a" if _accumulates(form, role, where) else "v", index, count, bits, type, half=half)
    value = constant(code, bits, type, form.bits.get("literal", 0))
    if value is not None:
        return Operand(role, "const", code, count, bits, type, value)
    return Operand(role, "s", code, count, bits, type, half=_half(form, role, bits))


def implicit(form: Form, explicit: dict[str, Operand]) -> dict[str, Operand]:
    """Operands that have no field: VCC of comparisons, carries and conditions; and the immediates."""
    found: dict[str, Operand] = {}

    def mask(role: str, index: int) -> None:
        found[role] = Operand(role, "s", index, form.wave // 32, form.wave, "m64")

    if form.encoding == "VOPC":
        named = form.bits["sdst"] if form.bits.get("sd") else VCC
        mask("D0", EXEC if form.name.startswith("v_cmpx") else named)
    reads_vcc = any(part in form.name for part in ("cndmask", "_co_ci_", "addc_co", "subb", "div_fmas"))
    if reads_vcc and "VCC" not in explicit and form.encoding in ("VOP1", "VOP2", "VOP3", "VOP3SD"):
        mask("VCC", VCC)
    if form.encoding == "VOP2" and "_co_" in form.name:
        mask("SDST", VCC)
    for name, role in (("simm16", "SIMM16"), ("literal", "SIMM32")):
        if name in form.bits:
            found[role] = Operand(role, "const", 0, 1, 32, "b32", form.bits[name])
    return found


def _operand_in(raw: Any, form: Form, name: str, field: Any) -> Operand | None:
    """The operand that a field names, or None if it names none."""
    table = raw.operands
    entry = next((table[n] for n in (name, "v" + name, name[1:]) if n in table), None)
    if name not in _ROLES or entry is None or (name == "src0" and "vsrc0" in form.bits):  # DPP and SDWA have vsrc0
        return None
    format, bits, where = entry[0].name, raw.op_bits.get(name, entry[1]), entry[2].name
    type = format.removeprefix("FMT_").removeprefix("NUM_").lower()
    role = _role(form, name, type)
    code = _code(form, name, field, role, where)
    if code is None or (role in ("SADDR", "SOFFSET") and _absent(form, role, code)):
        return None
    if type == "m64":
        bits = form.wave
    elif role == "ADDR" and "saddr" in form.bits and form.encoding not in _SCRATCH:
        whole = form.encoding in _FLAT or _absent(form, "SADDR", form.bits["saddr"])
        bits = 64 if whole else 32
    return operand(form, role, code, bits, type, where)


def _role(form: Form, name: str, type: str) -> str:
    """The role of the field `name`, which may be another one in this instruction than by its name."""
    role = _ROLES[name]
    if form.name.startswith(("s_cmpk", "s_setreg")) and name == "sdst":
        return "S0"  # the field of the destination names what is compared, or set
    if name == "sdst" and form.encoding == "VOP3SD":
        return "SDST"
    if role == "DATA" and form.encoding in _BUFFER and "load" in form.name:
        return "D0"
    if role == "S2" and type == "m64":
        return "VCC"
    return role


def _code(form: Form, name: str, field: Any, role: str, where: str) -> int | None:
    """The code of an operand as in nine bits, whatever its field has; None if the field is no operand's."""
    from tinygrad.renderer.amd.dsl import BitField, SrcField

    code = form.bits[name]
    if not isinstance(field, SrcField):
        scale = {"srsrc": 4, "sbase": 2}.get(name, 1)  # runs of registers that begin at multiples of this
        return code * scale if isinstance(field, BitField) else None
    code += field._valid_range[0]
    is_scalar = form.bits.get({"vsrc0": "s0", "vsrc1": "s1"}.get(name, ""))  # SDWA's flags
    if role == "D0" and where.startswith("OPR_SREG"):
        is_scalar = True  # v_readfirstlane of CDNA: a vector field that holds a scalar's number
    return code - VECTOR if is_scalar and code >= VECTOR else code


def _absent(form: Form, role: str, code: int) -> bool:
    """Whether a scalar address or offset is written `off` or `null`."""
    if form.family != "cdna":
        return code == NULL
    if role == "SOFFSET":
        return not form.bits.get("soffset_en", True)
    return code == 0x7F


def _half(form: Form, role: str, bits: int) -> int:
    """Which half of a register op_sel chooses for a 16-bit operand."""
    if bits != 16 or form.encoding not in ("VOP3", "VOP3SD") or role not in _HALVES or _CHOOSES.match(form.name):
        return 0
    return form.bits.get("opsel", 0) >> _HALVES.index(role) & 1


def _accumulates(form: Form, role: str, where: str) -> bool:
    """Whether a vector operand is an accumulation register (CDNA)."""
    if where in ("OPR_SRC_ACCVGPR", "OPR_ACCVGPR"):
        return True
    if "ACCVGPR" not in where:
        return False
    if "acc_cd" not in form.bits:
        return bool(form.bits.get("acc"))
    if role in ("S0", "S1"):
        return bool(form.bits["acc"] >> ("S0", "S1").index(role) & 1)
    return bool(form.bits["acc_cd"])


def _drop_unused(found: dict[str, Operand], form: Form) -> None:
    """Take out operands whose field the instruction does not use; atomics of buffers get their result."""
    bits = form.bits
    if "_atomic_" in form.name:
        if form.encoding in _BUFFER:
            found["D0"] = replace(found["DATA"], role="D0")
        if not (bits.get("sc0") or bits.get("glc") or bits.get("th", 0) & 1):  # CDNA, RDNA 3, RDNA 4
            found.pop("D0", None)  # the old value is not given back
    if form.encoding in _BUFFER and not (bits.get("offen") or bits.get("idxen")):
        found.pop("ADDR", None)
    if form.encoding in _FLAT:
        found.pop("SADDR", None)
    # gfx90a has no bit for a scratch instruction's vector address, but that or a scalar one
    by_vector = bits.get("sve") or (form.arch == "gfx90a" and "SADDR" not in found)
    if form.encoding in _SCRATCH and not by_vector:
        found.pop("ADDR", None)
    if bits.get("lds") or "_load_lds_" in form.name:
        found.pop("D0", None)  # the data goes to LDS
