"""Memory instructions: from a mnemonic to a function that runs it on `Waves`.

The packaged pseudocode describes most of them, but unevenly: offsets, address forms and range checks are missing at
places. So they are written by hand here, from the grammar of the mnemonics, which all families share in two spellings
(`global_load_dwordx2`, `global_load_b64`); the pseudocode decides what an atomic or a crossbar operation computes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.instructions.access import buffers, flat, scalars, share
from forge.amdgcn.state.waves import Waves
from forge.amdgcn.trap import UNKNOWN, Fault

MEMORY = re.compile(
    r"(global|flat|scratch|buffer|tbuffer|image|ds)_|s_(buffer_|scratch_)?(load|store|atomic|prefetch)_"
    r"|s_[di]cache_|s_gl1_inv"
)
# Caches are transparent here: memory is one, and every instruction is done before the next begins.
CACHE_CONTROL = re.compile(
    r"buffer_(gl[01]_inv|inv|wbl2|wbinvl1(_vol)?|invl2)|global_(inv|wb|wbinv|prefetch_b8)"
    r"|s_[di]cache_\w+|s_gl1_inv|s_(buffer_)?prefetch_\w+|ds_nop"
)
UNSUPPORTED: dict[str, str] = {  # by regular expressions of mnemonics
    r"image_\w+": "images are not modelled",
    r"tbuffer_\w+|buffer_(load|store)_(\w+_)?format_\w+": "typed buffers are not modelled",
    r"ds_(gws_\w+|append|consume|ordered_count|(add|sub)_gs_reg_rtn)": "global data share is not modelled",
    r"ds_(direct|param)_load": "the inputs of pixel shaders are not modelled",
    r"(buffer|global)_load_lds_(b32|[iu](8|16)|addtid_b32)": "RDNA's loads to LDS are not modelled",
    r"ds_bvh_stack_\w+": "ray tracing is not modelled",
    r"ds_(wrxchg2|storexchg_2addr)\w*|ds_condxchg32_rtn_b64": "exchanges of two addresses are not modelled",
    r"(ds|global)_(read|write|load|store)_addtid_b32": "addresses by lane number are not modelled",
    r"(global|ds)_load_tr\w+": "the layout of RDNA 4's transposed loads is not in the pseudocode",
    r"(global|scratch)_(load|store)_block": "block transfers are not modelled",
    r"global_atomic_ordered_add_b64": "ordered atomics are not modelled",
    r"s_(scratch|atomic|store|buffer_store|buffer_atomic)_\w+": "scalar stores and atomics are not modelled",
}
UNSUPPORTED_FIELDS = {
    "gds": "global data share is not modelled",
    "tfe": "the failure status of a texture is not modelled",
}


def bind(instruction: Instruction, arch: str) -> Callable[[Waves], None] | None:
    """What `instruction` does to waves; None if it is no memory instruction. Raises Fault(UNKNOWN) for one that is in
    UNSUPPORTED or of no known form."""
    name = instruction.name
    if not MEMORY.match(name):
        return None
    for pattern, reason in UNSUPPORTED.items():
        if re.fullmatch(pattern, name):
            raise Fault(UNKNOWN, f"{name}: {reason}")
    if CACHE_CONTROL.fullmatch(name):
        return _nothing
    for field, reason in UNSUPPORTED_FIELDS.items():
        if instruction.fields.get(field):
            raise Fault(UNKNOWN, f"{name} with {field}: {reason}")
    if name.startswith("ds_"):
        return share.bind(instruction, arch)
    if name.startswith("s_"):
        return scalars.bind(instruction)
    if name.startswith("buffer_"):
        return buffers.bind(instruction, arch)
    return flat.bind(instruction, arch)


def _nothing(waves: Waves) -> None:
    """Cache control has no effect on what is read."""
