"""Corrections of packaged pseudocode that are a replacement of a few words, names that the tables lack, and what the
package leaves to the machine."""

from __future__ import annotations

import re

# What names another part of the same lane is a plain operand here.
_REGISTERS = ((re.compile(r"VGPR\[laneId\]\[SRC0\.u32\]"), "S0"), (re.compile(r"VGPR\[laneId\]\[VDST\.u32\]"), "D0"))

_SELECTED = ("SDWA_SRC0_SEL[1 : 0] == WORD1.b2 ? S0[31 : 16] : S0[15 : 0]", "S0[15 : 0]")
CORRECTIONS: dict[tuple[str, str] | str, tuple[str, str]] = {
    # two operands only: S2 is not there, the accumulator is meant
    "v_fmac_dx9_zero_f32": ("S2.f32", "D0.f32"),
    # the truth table lies in fields that other instructions use; the machine gathers it
    "v_bitop3_b32": ("TTBL = { INST.OMOD[1 : 0], INST.ABS[2 : 0], INST.NEG[2 : 0] };", ""),
    "v_bitop3_b16": ("TTBL = { INST.OMOD[1 : 0], INST.ABS[2 : 0], INST.NEG[2 : 0] };", ""),
    # the functions have other names elsewhere in the text
    "v_cvt_pk_i16_f32": ("v_cvt_i16_f32", "f32_to_i16"),
    "v_cvt_pk_u16_f32": ("v_cvt_u16_f32", "f32_to_u16"),
    # sub-dword selection is the machine's, and done by then
    ("cdna", "v_cvt_pk_f32_fp8"): _SELECTED,
    ("cdna", "v_cvt_pk_f32_bf8"): _SELECTED,
}
_REPLACED = {
    ("cdna", "v_cvt_f32_fp8"): "D0.f32 = fp8_to_f32(S0[7 : 0].fp8)",  # as above
    ("cdna", "v_cvt_f32_bf8"): "D0.f32 = bf8_to_f32(S0[7 : 0].bf8)",
}

# Dual-issue operations are the single ones; rdna3's table lacks one that rdna4's has.
ALIASES = {
    ("rdna3", "v_dot2acc_f32_bf16"): ("rdna4", "v_dual_dot2acc_f32_bf16"),
    ("rdna3", "v_dual_dot2acc_f32_bf16"): ("rdna4", "v_dual_dot2acc_f32_bf16"),
}

# Pseudocode that would translate, and must not: the machine owns these registers, or the effect is on other lanes.
MACHINE = re.compile(
    r"[sv]_mov(rel|_fed)\w*|[sv]_\w*(readlane|writelane|readfirstlane|permlane|interp)\w*|v_mad_mix\w*|v_fma_mix\w*"
    r"|s_(cbranch|branch|call|getpc|setpc|swappc|rfe|getreg|setreg|sleep|nop|wait|barrier|set_gpr|sendmsg)\w*"
    r"|v_\w*(mfma|wmma|smfmac|swmmac|accvgpr)\w*"
)

# Where the clamp bit saturates an integer.
CLAMPED = re.compile(r"v_(pk_)?(add|sub|subrev|mad)(_nc|_lo)?_[iu](16|32)(_[iu]16)?|v_dot[248]c?_[iu]32_\w+")


def corrected(family: str, name: str, text: str) -> str:
    """The pseudocode of an instruction as it is to be translated."""
    if (family, name) in _REPLACED:
        return _REPLACED[family, name]
    for pattern, operand in _REGISTERS:
        text = pattern.sub(operand, text)
    change = CORRECTIONS.get((family, name)) or CORRECTIONS.get(name)
    text = text if change is None else text.replace(*change)
    return re.sub(r"\bD\.b", "D0.b", text)
