"""AMD's pseudocode of arithmetic instructions, translated once into NumPy functions over the lanes of many waves.

`meaning("rdna3", "v_add_f32")` gives inputs, outputs and a function. The text comes from tinygrad's tables; `parse`
reads it, `emit` writes Python, and `corrections` and `by_hand` hold what the text gets wrong or leaves open.
Numbers are IEEE 754's to nearest even, denormals kept, exceptions masked; NaN payloads are not promised.
"""

from __future__ import annotations

from functools import cache

from forge.amdgcn.pseudocode.by_hand import BY_HAND
from forge.amdgcn.pseudocode.corrections import ALIASES, CLAMPED, MACHINE, corrected
from forge.amdgcn.pseudocode.meaning import Meaning, Output
from forge.amdgcn.pseudocode.translate import FAMILIES, texts, translate
from forge.errors import UnsupportedError

__all__ = ["FAMILIES", "Meaning", "Output", "meaning"]


@cache
def meaning(family: str, name: str, *, ocp: bool | None = None, clamp: bool = False) -> Meaning | None:
    """What `name` computes, or None if it is no arithmetic that this package gives.

    `name` is the mnemonic in lower case, without _e32 or _e64. `ocp` says which 8-bit floats: OCP's, as on gfx950 and
    gfx12 (rdna4's default), or those of gfx942 (cdna's default).
    `clamp` is the instruction's clamp bit: an integer result then saturates, and `UnsupportedError` is raised where
    that is not known; the clamp of a float is the machine's.
    """
    if MACHINE.fullmatch(name):
        return None
    home, known = ALIASES.get((family, name), (family, name))
    packaged = texts(home)
    single = known.replace("v_dual_", "v_")  # a dual operation is the single one
    known = single if single in packaged else known
    if known not in packaged and known not in BY_HAND:
        return None
    exact = clamp and CLAMPED.fullmatch(known) is not None
    try:
        found = None if exact else BY_HAND.get(known)
        if found is None:
            text = corrected(home, known, packaged[known])
            wide = family != "cdna" if ocp is None else ocp
            found = translate(home, known, text, ocp=wide, clamp=exact)
    except UnsupportedError:
        return None
    if clamp and not exact and not any(output.float for output in found.outputs):
        raise UnsupportedError(f"{name} with its clamp bit set has no emulation", where=f"family {family}")
    return found
