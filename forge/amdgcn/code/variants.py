"""The forms of an instruction that tinygrad describes and does not choose: RDNA's data-parallel ones (DPP).

By its first source an instruction of the vector ALU says that its operand comes from other lanes, and a dword follows
it, or the two of VOP3, that tells from which: DPP16 by a control field, DPP8 by a lane of eight for each of eight.
Source: AMD's RDNA3 and RDNA4 ISA documents, "Data Parallel Processing".
"""

from __future__ import annotations

from functools import cache
from typing import Any

from forge.amdgcn.code.tables import tables

DPP16, DPP8, DPP8_INACTIVE_TOO = 250, 233, 234  # the first source's codes
_FIELDS = {  # (high, low) bits of the dword that follows
    DPP16: {"dpp": (16, 8), "fi": (18, 18), "bc": (19, 19), "bank_mask": (27, 24), "row_mask": (31, 28)},
    DPP8: {f"lane_sel_{i}": (10 + 3 * i, 8 + 3 * i) for i in range(8)},
}


def decode_raw(data: bytes, family: str) -> Any:
    """The tables' own instruction at the start of `data`. Raises ValueError where there is none."""
    raw = tables().decode_inst(data, family)
    field = dict(raw._fields).get("src0")
    if family == "cdna" or field is None or not type(raw).__name__.startswith("VOP"):
        return raw
    code = raw._raw >> field.lo & field.mask
    if code not in (DPP16, DPP8, DPP8_INACTIVE_TOO):
        return raw
    plain = next(c for c in type(raw).__mro__ if not c.__name__.endswith(("_DPP16", "_DPP8")))
    return _with_lanes(plain, DPP16 if code == DPP16 else DPP8).from_bytes(data)


@cache
def _with_lanes(form: Any, code: int) -> Any:
    """The encoding `form` followed by the dword of DPP16 or DPP8."""
    from tinygrad.renderer.amd.dsl import BitField, VGPRField

    dword = 8 * form._base_size
    fields: dict[str, Any] = {"vsrc0": VGPRField(dword + 7, dword)}
    for name, (high, low) in _FIELDS[code].items():
        fields[name] = BitField(dword + high, dword + low)
    if form.__name__ in ("VOP1", "VOP2", "VOPC") and code == DPP16:  # VOP3 has signs of its own
        for at, name in enumerate(("src0_neg", "src0_abs", "src1_neg", "src1_abs")):
            fields[name] = BitField(dword + 20 + at, dword + 20 + at)
    return type(f"{form.__name__}_{'DPP16' if code == DPP16 else 'DPP8'}", (form,), fields)
