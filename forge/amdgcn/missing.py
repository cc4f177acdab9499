"""What the emulator refuses: each instruction of an architecture's tables that has no emulation, and why.

A kernel that holds one is refused before its first instruction runs. None of ours does.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from enum import Enum
from typing import Final

from forge.amdgcn import matrix
from forge.amdgcn.code.decode import plain
from forge.amdgcn.code.instruction import Instruction, Operand
from forge.amdgcn.code.tables import family
from forge.amdgcn.instructions import access, control, lanes
from forge.amdgcn.pseudocode import meaning
from forge.errors import MissingDependencyError

# By regular expressions of mnemonics; those of memory and matrix instructions stand with their code.
REASONS: Final = {
    **access.UNSUPPORTED,
    **{f"{re.escape(start)}\\w*": reason for start, reason in matrix.UNSUPPORTED.items()},
    r"exp|export|s_endpgm_ordered_ps_done|(v|lds)_(interp|direct|param|screen)_\w+": "graphics is not modelled",
    r"[sv]_(movrel|swaprel)\w+|s_set_gpr_idx_\w+": "registers chosen at run time are not modelled",
    r"s_[gs]etreg_\w+|s_(round|denorm)_mode|s_set_valu_coexec_mode|s_setvskip": "modes but FP16_OVFL stay fixed",
    r"s_rfe_\w+|s_trap|s_sendmsg(halt|_rtn_b(32|64))|s_setkill|v_clrexcp": "traps and messages are not modelled",
    r"s_cbranch_cdbg\w+": "debuggers are not modelled",
    r"s_barrier_(init|join|leave|signal_isfirst)|s_get_barrier_state": "a workgroup has one barrier here",
    r"s_wakeup|s_sleep_var|s_alloc_vgpr|s_subvector_loop_\w+|s_cbranch_([ig]_fork|join)": "scheduling is fixed",
    r"s_atc_probe\w*": "there are no pages of memory to probe",
    r"v_cvt_scalef32_\w+": "conversions of fp6, and of blocks, are not modelled",
    r"v_cvt_sr_\w+": "stochastic rounding: the pseudocode does not tell it wholly",
    r"v_cvt_pkaccum_u8_f32|v_(exp|log)_legacy_f32|v_mqsad_u32_u8": "the pseudocode does not suffice",
}


def missing(arch: str) -> dict[str, str]:
    """Mnemonic -> why it has no emulation, of all that the tables know of `arch`'s family; sorted.

    Raises UnsupportedError for an architecture without an emulator, MissingDependencyError without the tables.
    """
    return {name: reason(name) for name in sorted({*mnemonics(family(arch))}) if not _emulated(name, arch)}


def reason(name: str) -> str:
    return next((why for pattern, why in REASONS.items() if re.fullmatch(pattern, name)), "not modelled")


def mnemonics(kind: str) -> Iterator[str]:
    """Those of a family, as the tables name them."""
    try:
        tables = importlib.import_module(f"tinygrad.runtime.autogen.amd.{kind}.enum")
    except ImportError as error:
        raise MissingDependencyError(
            f"the tables of instructions cannot be imported: {error}", remedy="pip install 'forge-triton[emulate]'"
        ) from error
    for table in vars(tables).values():
        if isinstance(table, type) and issubclass(table, Enum) and table.__name__.endswith("Op"):
            for code in table:
                yield plain(code.name.lower())


def _emulated(name: str, arch: str) -> bool:
    if access.MEMORY.match(name):
        return not any(re.fullmatch(pattern, name) for pattern in access.UNSUPPORTED)
    if re.match(r"v_\w*(mfma|wmma|smfmac|swmmac)", name):
        return not name.startswith(tuple(matrix.UNSUPPORTED))  # or another architecture's of the family
    if re.match(r"v_(fma|mad)_mix", name) or meaning(family(arch), name, ocp=True) is not None:
        return True
    file = "v" if name.startswith("v_") else "s"
    operands = {role: Operand(role, file, 0, 1, 32, "b32") for role in ("S0", "S1", "S2", "D0", "SIMM16")}
    probe = Instruction(0, 4, name, "", operands, {"opsel": 0})
    return control.bind(probe, arch, 0) is not None or lanes.bind(probe, arch) is not None
