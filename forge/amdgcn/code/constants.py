"""Constants in the place of an operand: small integers, a few floats, and a literal dword after the instruction.

Source: AMD's ISA documents, "Scalar operands" and "Inline constants".
"""

from __future__ import annotations

import math
import re
import struct

INLINE_FLOATS = dict(enumerate((0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 4.0, -4.0, 0.5 / math.pi), 240))  # by their codes
LITERAL = 255


def constant(code: int, bits: int, type: str, literal: int) -> int | None:
    """The bits of the constant of that code for an operand of `bits` and `type`; None if it is none."""
    if 128 <= code <= 208:
        number = code - 128 if code <= 192 else 192 - code
        return number & ((1 << max(bits, 32)) - 1)
    if code in INLINE_FLOATS:
        return inline_float(code, type)
    if code != LITERAL:
        return None
    if type == "f64":
        return literal << 32
    negative = bits == 64 and type == "i64" and literal >> 31
    return literal | (0xFFFFFFFF << 32) if negative else literal


def inline_float(code: int, type: str) -> int:
    """The bits of an inline constant, 240 (0.5) to 248 (1 / 2 pi), for an operand of `type`."""
    number = INLINE_FLOATS[code]
    base = re.sub(r"^(pk\d+_|wmma_\w+_)", "", type)
    if base == "bf16":  # the upper half of the float, not rounded
        return int.from_bytes(struct.pack("<f", number)[2:], "little")
    form = {"f16": "<e", "f64": "<d", "b64": "<d", "u64": "<d", "i64": "<d"}.get(base, "<f")
    return int.from_bytes(struct.pack(form, number), "little")
