"""Machine code to `Instruction`s, by the tables that tinygrad generates from AMD's ISA documents.

The tables know the encodings and each operand's width and type; what is added here is one naming of operands and
fields over all families. Every decoded mnemonic is held against the assembler's listing: where they differ the code
is not run. tinygrad has no separate tables for gfx90a, whose matrix instructions share opcodes with other ones of
gfx942: GFX90A_MATRIX says which. It leaves the buffer encodings of RDNA out of its decoder, though it describes them.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

from forge.amdgcn.code.codeobject import KernelCode
from forge.amdgcn.code.instruction import Instruction, Operand
from forge.amdgcn.code.listing import Line, functions, listing
from forge.amdgcn.trap import UNKNOWN
from forge.errors import EmulationError, MissingDependencyError, UnsupportedError

FAMILIES = {
    "gfx90a": "cdna",
    "gfx942": "cdna",
    "gfx950": "cdna",
    "gfx1100": "rdna3",
    "gfx1151": "rdna3",
    "gfx1201": "rdna4",
}

# Matrix instructions of gfx90a whose opcodes are other instructions, or none, in tinygrad's tables of CDNA3 and 4.
# They are decoded as the one of opcode STAND_IN, which has the same fields.
GFX90A_MATRIX = {
    0x54: "v_mfma_i32_32x32x8i8",
    0x55: "v_mfma_i32_16x16x16i8",
    0x63: "v_mfma_f32_32x32x4bf16_1k",
    0x64: "v_mfma_f32_16x16x4bf16_1k",
    0x65: "v_mfma_f32_4x4x4bf16_1k",
    0x66: "v_mfma_f32_32x32x8bf16_1k",
    0x67: "v_mfma_f32_16x16x16bf16_1k",
    0x68: "v_mfma_f32_32x32x2bf16",
    0x69: "v_mfma_f32_16x16x2bf16",
    0x6B: "v_mfma_f32_4x4x2bf16",
    0x6C: "v_mfma_f32_32x32x4bf16",
    0x6D: "v_mfma_f32_16x16x8bf16",
}
STAND_IN = 0x4D
GFX90A_CACHES = {0x29: "buffer_invl2", 0x3E: "buffer_wbinvl1", 0x3F: "buffer_wbinvl1_vol"}  # opcodes of MUBUF likewise

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


def family(arch: str) -> str:
    """tinygrad's name for the tables of `arch`. Raises UnsupportedError for an architecture without an emulator."""
    found = FAMILIES.get(arch)
    if found is None:
        raise UnsupportedError(f"there is no emulator of {arch}", remedy=f"one of: {', '.join(FAMILIES)}")
    return found


@lru_cache
def _tables() -> ModuleType:
    try:
        import tinygrad.renderer.amd as tables
        from tinygrad.runtime.autogen.amd.rdna3.ins import MUBUF
        from tinygrad.runtime.autogen.amd.rdna4.ins import VBUFFER
    except ImportError as error:
        raise MissingDependencyError(
            f"the decoder's tables cannot be imported: {error}", remedy="pip install 'forge-triton[emulate]'"
        ) from error
    formats = tables._load_formats()
    for name, missing in (("rdna3", MUBUF), ("rdna4", VBUFFER)):
        if missing not in formats[name]:
            formats[name].insert(0, missing)
    return tables


def decode_object(code: KernelCode, assembly: str) -> dict[int, Instruction]:
    """Every instruction of a kernel and of the functions that it may call, each agreeing with the assembler's text.

    Raises EmulationError where bytes decode to no instruction, or to another one than the assembler wrote.
    """
    found: dict[int, Instruction] = {}
    pc = 0
    for name, alignment in functions(assembly):
        pc += -pc % alignment
        if name == code.name and pc != code.entry:
            what = f"{name} begins at {code.entry:#x}, by the assembler's text at {pc:#x}"
            raise EmulationError(what, kind=UNKNOWN, where=code.name)
        found |= decode(code, listing(assembly, name), pc)
        pc = max(i.next for i in found.values())
    return found


def decode(code: KernelCode, lines: Sequence[Line], begin: int | None = None) -> dict[int, Instruction]:
    """The instructions of one function, the kernel or that at `begin`, each agreeing with a line of its listing."""
    found: dict[int, Instruction] = {}
    pc = code.entry if begin is None else begin
    for line in lines:
        if line.mnemonic.startswith(".p2align"):
            boundary = 1 << int(line.mnemonic.split()[1])
            while pc % boundary and pc < len(code.text):
                padding = decode_one(code.text, pc, code.arch, code.wave)
                if padding.name not in ("s_nop", "s_code_end"):
                    break
                found[pc] = padding
                pc = padding.next
            continue
        instruction = decode_one(code.text, pc, code.arch, code.wave, line)
        found[pc] = instruction
        pc = instruction.next
    return found


def decode_all(text: bytes, arch: str, wave: int) -> dict[int, Instruction]:
    """Every instruction of bare machine code, from its first byte to its last."""
    found: dict[int, Instruction] = {}
    pc = 0
    while pc < len(text):
        found[pc] = decode_one(text, pc, arch, wave)
        pc = found[pc].next
    return found


def decode_one(text: bytes, pc: int, arch: str, wave: int, line: Line | None = None) -> Instruction:
    """The instruction at `pc`. Raises EmulationError if it is none, or not what the listing's `line` says."""
    where = f"{pc:#x}" + (f": {line.text}" if line else "") + (f" ({line.source})" if line and line.source else "")
    kind = family(arch)
    data = text[pc : pc + 16].ljust(16, b"\0")
    word = int.from_bytes(data[:4], "little")
    renamed = None
    if arch == "gfx90a" and word >> 23 == 0x1A7:
        renamed, other = GFX90A_MATRIX.get(word >> 16 & 0x7F), word & ~(0x7F << 16) | STAND_IN << 16
    elif arch == "gfx90a" and word >> 26 == 0x38:
        renamed, other = GFX90A_CACHES.get(word >> 18 & 0x7F), word & ~(0x7F << 18) | 0x29 << 18
    if renamed:
        data = other.to_bytes(4, "little") + data[4:]
    try:
        raw = _tables().decode_inst(data, kind)
    except (ValueError, AssertionError) as error:
        raise EmulationError(
            f"no {kind} instruction: {text[pc : pc + 8].hex()} ({error})", kind=UNKNOWN, where=where
        ) from error
    written, source = (line.text, line.source) if line else ("", "")
    if hasattr(raw, "opx"):
        instruction = _dual(raw, pc, kind, wave, written, source)
    else:
        name = renamed or _spelled(plain(raw.op_name.lower()), kind, arch)
        instruction = Instruction(
            pc, raw.size(), name, _encoding(raw), _operands(raw, name, arch, wave), _fields(raw, kind), written, source
        )
    if line and instruction.name != plain(line.mnemonic):
        raise EmulationError(
            f"decoded as {instruction.name}, which the assembler wrote otherwise", kind=UNKNOWN, where=where
        )
    return instruction


def _spelled(name: str, kind: str, arch: str) -> str:
    """The assembler's name of what tinygrad calls `name`."""
    if kind == "cdna":
        name = name.replace("v_mad_mix", "v_fma_mix")  # the documents keep the name of the first, unfused kind
        if name in ("v_accvgpr_read", "v_accvgpr_write"):
            name += "_b32"
    if arch == "gfx90a" and "mfma" in name:
        name = re.sub(r"(\d+x\d+x\d+)(_\d+b)?_", r"\1", name)
    return name


def plain(mnemonic: str) -> str:
    """A mnemonic without the assembler's suffix for its encoding."""
    return "::".join(re.sub(r"(_e32|_e64)?(_dpp|_sdwa)?$", "", part) for part in mnemonic.split("::"))


def _encoding(raw: Any) -> str:
    return re.sub(r"(_SDST)?(_LIT|_DPP16|_DPP8|_SDWA|_MFMA)?(_SDST)?$", "", type(raw).__name__)


def _fields(raw: Any, kind: str) -> dict[str, int]:
    from tinygrad.renderer.amd.dsl import BitField, EnumBitField, FixedBitField, SrcField

    given = {}
    for name, bits in raw._fields:
        if type(bits) is BitField and not isinstance(bits, EnumBitField | FixedBitField | SrcField):
            given[_FIELDS.get(name, name)] = (raw._raw >> bits.lo) & bits.mask
    width = _SIGNED.get((kind, _encoding(raw)))
    if width and "offset" in given:
        given["offset"] = (given["offset"] ^ 1 << width - 1) - (1 << width - 1)
    if "opsel_hi2" in given:
        given["opsel_hi"] |= given.pop("opsel_hi2") << 2
    return given


def _operands(raw: Any, name: str, arch: str, wave: int) -> dict[str, Operand]:
    from tinygrad.renderer.amd.dsl import BitField, SrcField

    kind, encoding, table = family(arch), _encoding(raw), raw.operands
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
        found[role] = _operand(raw, role, code, width, type, kind, encoding, fields, entry[2].name)
    _implicit(found, name, encoding, fields, wave)
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


def _operand(
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


def _implicit(found: dict[str, Operand], name: str, encoding: str, fields: dict[str, int], wave: int) -> None:
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


def _dual(raw: Any, pc: int, kind: str, wave: int, text: str, source: str) -> Instruction:
    """A VOPD instruction: two operations of VOP2 at once, X and Y."""
    fields = {n: (raw._raw >> f.lo) & f.mask for n, f in raw._fields}
    parts = []
    for half in ("x", "y"):
        name = getattr(raw, f"op{half}").name.lower()
        result = getattr(raw, f"vdst{half}").offset - 256
        operands = {"D0": Operand("D0", "v", result, 1, 32, "b32")}
        number = "f32" if name.endswith("f32") else "b32"
        for role, code in (("S0", fields[f"src{half}0"]), ("S1", fields[f"vsrc{half}1"] + 256)):
            if role == "S0" or "mov" not in name:
                operands[role] = _operand(raw, role, code, 32, number, kind, "VOPD", fields, "")
        _implicit(operands, name, "VOP2", fields, wave)
        parts.append(Instruction(pc, raw.size(), name, "VOPD", operands, {}))
    name = f"{parts[0].name}::{parts[1].name}"
    return Instruction(pc, raw.size(), name, "VOPD", {}, {}, text, source, tuple(parts))
