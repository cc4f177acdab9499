"""Which family an architecture is of, and tinygrad's tables of that family's encodings.

tinygrad leaves the buffer encodings of RDNA out of its decoder, though it describes them, and takes some products of
matrices for packed arithmetic: they are put right here.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from types import ModuleType

from forge.amdgcn.code.descriptor import instruction_set
from forge.errors import MissingDependencyError, UnsupportedError

FAMILIES = {  # of the architectures that have an emulator
    arch: instruction_set(arch) for arch in ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1151", "gfx1201")
}


def family(arch: str) -> str:
    """tinygrad's name for the tables of `arch`. Raises UnsupportedError for an architecture without an emulator."""
    found = FAMILIES.get(arch)
    if found is None:
        raise UnsupportedError(f"there is no emulator of {arch}", remedy=f"one of: {', '.join(FAMILIES)}")
    return found


VERSION = "0.14.0"  # of tinygrad: what the instruction tests hold is its tables
_INSTALL = "pip install 'forge-triton[emulate]'"


@lru_cache
def tables() -> ModuleType:
    """tinygrad's decoder. Raises MissingDependencyError if it is not there, or of another version."""
    try:
        found = version("tinygrad")
        import tinygrad.renderer.amd as tables
        from tinygrad.renderer.amd.dsl import OPERANDS
        from tinygrad.runtime.autogen.amd.cdna.enum import VOP3POp
        from tinygrad.runtime.autogen.amd.cdna.ins import VOP3P, VOP3P_MFMA
        from tinygrad.runtime.autogen.amd.rdna3.ins import MUBUF
        from tinygrad.runtime.autogen.amd.rdna4.ins import VBUFFER
    except ImportError as error:
        raise MissingDependencyError(
            f"the decoder's tables, of tinygrad {VERSION}, cannot be imported: {error}", remedy=_INSTALL
        ) from error
    if found != VERSION:
        raise MissingDependencyError(f"the emulator needs tinygrad {VERSION}; {found} is installed", remedy=_INSTALL)
    formats = tables._load_formats()
    for name, missing in (("rdna3", MUBUF), ("rdna4", VBUFFER)):
        if missing not in formats[name]:
            formats[name].insert(0, missing)
    products = {op for op in VOP3P.op.allowed or () if "MFMA" in op.name}  # xf32 among them: gfx942's alone
    VOP3P_MFMA.op.allowed.update(products)
    OPERANDS.update({op: OPERANDS[VOP3POp.V_MFMA_F32_16X16X16_F16] for op in products if op not in OPERANDS})
    return tables
