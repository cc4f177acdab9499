"""Whether an instruction's operands are ones that its encoding may have.

The decoder takes any code for an operand. Compilers write none of those that are refused here; corrupted code does, and
must end in a trap, not beyond the register file.
"""

from __future__ import annotations

from forge.amdgcn.code.instruction import EXECZ, SCC, VCCZ, Instruction, Operand
from forge.amdgcn.instructions import matrices
from forge.amdgcn.state.waves import ACC, VECTOR
from forge.amdgcn.trap import UNKNOWN, Fault

_RESULTS, _ADDRESSES = ("D0", "SDST"), ("SADDR", "SBASE", "SRSRC")
_SCALARS = {  # sources that are the same for all lanes
    "v_readlane_b32": ("S1",), "v_writelane_b32": ("S0", "S1"), "v_permlane16_b32": ("S1", "S2"),
    "v_permlanex16_b32": ("S1", "S2"),
}  # fmt: skip


def require_registers(instruction: Instruction, arch: str) -> None:
    """Raises Fault(UNKNOWN) for an operand that cannot be in its role, or runs beyond its register file."""
    for part in instruction.parts or (instruction,):
        for operand in (*part.operands.values(), *matrices.operands(part, arch).values()):
            varies = operand.file in ("v", "a") and operand.role in _SCALARS.get(part.name, ())
            if varies or not _possible(operand):
                told = f"{operand.role} cannot be {operand.count} dwords from {operand.file}{operand.index} on"
                raise Fault(UNKNOWN, f"{part.name}: {told}")


def _possible(operand: Operand) -> bool:
    if operand.file == "const":
        return operand.role not in (*_RESULTS, *_ADDRESSES)
    if operand.file != "s":
        return operand.role not in (*_ADDRESSES, "SOFFSET") and operand.index + operand.count <= ACC
    if operand.index in (VCCZ, EXECZ, SCC):
        return operand.role in ("S0", "S1", "S2")
    return operand.index + operand.count <= VECTOR
