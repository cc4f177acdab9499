"""Device code of `linear_tall`: the numbers in a weight's words to fp16, a tensor for each byte of a word.

A word of q holds four numbers of a field, one a byte. Where codes have upper bits, `upper` is a word that has those of
the same four in the lowest bits of its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forge.language import DeviceObject, jit, tl
from forge.quant import QuantFormat

# Weights are made so many times what they are, and their sums divided by it: then scales are no fp16 denormals where
# weights are small, and weights of up to 1,023 are still no infinities.
ENLARGED: Any = None if tl is None else tl.constexpr(64)


@dataclass(frozen=True, repr=False)
class Halves(DeviceObject):
    """How a format's numbers become fp16: `numbers` of the words, and `scaled` of a tile of numbers.

    With `pairs` a matrix unit wants pairs of columns 0 1 8 9 in one lane, where else it wants them in turn. `assembly`
    has a text for each field of a word.
    """

    numbers: Any
    scaled: Any
    pairs: bool = False
    assembly: tuple[str, ...] = ()

    def seen(self) -> tuple[Any, ...]:
        return self.numbers, self.scaled, self.pairs, self.assembly


@jit
def _byte(q, upper, W: tl.constexpr, FIELD: tl.constexpr, BYTE: tl.constexpr):
    """f32 code in a byte, less its offset."""
    if W.bits == 8:
        code = (q << (24 - 8 * BYTE)) >> 24
    else:
        code = (q >> (8 * BYTE + W.bits * FIELD)) & ((1 << W.bits) - 1)
        if W.high > 0:
            code |= ((upper >> (8 * BYTE)) & ((1 << W.high) - 1)) << W.bits
        code -= W.offset
    return code.to(tl.float32)


@jit
def plain_numbers(q, upper, W: tl.constexpr, HALVES: tl.constexpr, FIELD: tl.constexpr):
    """f32 codes less their offset."""
    a, b = _byte(q, upper, W, FIELD, 0), _byte(q, upper, W, FIELD, 1)
    return a, b, _byte(q, upper, W, FIELD, 2), _byte(q, upper, W, FIELD, 3)


@jit
def plain_scaled(number, scale, minimum, W: tl.constexpr):
    """f16 of ENLARGED * (number * scale - minimum), made in f32."""
    value = number * scale
    if W.minimum:
        value -= minimum
    return (value * ENLARGED).to(tl.float16)


@jit
def packed_numbers(q, upper, W: tl.constexpr, HALVES: tl.constexpr, FIELD: tl.constexpr):
    """f16 codes less their offset, which are exact."""
    ASSEMBLY: tl.constexpr = HALVES.assembly[FIELD]
    four: tl.constexpr = (tl.float16, tl.float16, tl.float16, tl.float16)
    return tl.inline_asm_elementwise(ASSEMBLY, "=h,=h,=h,=h,r,r", [q, upper], four, True, 1)


@jit
def packed_scaled(number, scale, minimum, W: tl.constexpr):
    """ENLARGED * (number * scale - minimum) in fp16, two at a time."""
    scale = (scale * ENLARGED).to(tl.float16)
    if W.minimum:
        args = [number, scale, (minimum * -ENLARGED).to(tl.float16)]
        y = tl.inline_asm_elementwise("fma.rn.f16x2 $0, $1, $2, $3;", "=r,r,r,r", args, tl.float16, True, 2)
    else:
        y = tl.inline_asm_elementwise("mul.rn.f16x2 $0, $1, $2;", "=r,r,r", [number, scale], tl.float16, True, 2)
    return y


def _both(value: float) -> str:
    """An fp16 number in both halves of a register, as PTX writes it."""
    import numpy as np

    bits = int(np.float16(value).view(np.uint16))
    return f"0x{bits << 16 | bits:08x}"


def _bytes(value: int) -> str:
    """A byte in all four of a register."""
    return f"0x{value * 0x01010101:08x}"


def _ptx(form: QuantFormat, field: int) -> str:
    """PTX of the fp16 codes $0 to $3 of the word $4, whose upper bits are in $5.

    A byte under 0x64 is the fp16 number 1024 + byte. A field stays where it is in its byte: then a number's lowest bit
    counts `part`, which the subtraction of 1024 divides by too.
    """
    steps, part, offset = ["{ .reg .b32 n, u, a, b, k, m;"], 1, form.offset
    mask = (1 << form.bits) - 1
    if form.bits == 8:
        steps.append(f"xor.b32 n, $4, {_bytes(0x80)};")
        offset = 128
    elif not form.high:
        part = 1 << form.bits * field
        steps.append(f"and.b32 n, $4, {_bytes(mask * part)};")
    else:
        steps += [f"shr.u32 n, $4, {form.bits * field};", f"and.b32 n, n, {_bytes(mask)};"]
        steps += [f"and.b32 u, $5, {_bytes((1 << form.high) - 1)};", f"mad.lo.u32 n, u, {1 << form.bits}, n;"]
    steps.append("mov.b32 k, 0x64646464; prmt.b32 a, n, k, 0x4140; prmt.b32 b, n, k, 0x4342;")
    steps.append(f"mov.b32 m, {_both(-1024 / part - offset)};")
    if part == 1:
        steps.append("add.rn.f16x2 a, a, m; add.rn.f16x2 b, b, m;")
    else:
        steps.append(f"mov.b32 k, {_both(1 / part)}; fma.rn.f16x2 a, a, k, m; fma.rn.f16x2 b, b, k, m;")
    return " ".join([*steps, "mov.b32 {$0, $1}, a; mov.b32 {$2, $3}, b; }"])


def plain(pairs: bool) -> Halves:
    """In arithmetic, for targets whose instructions this file does not know."""
    return Halves(plain_numbers, plain_scaled, pairs)


def packed(form: QuantFormat, pairs: bool) -> Halves:
    """By NVIDIA's instructions on two fp16 at a time."""
    texts = tuple(_ptx(form, field) for field in range(form.fields))
    return Halves(packed_numbers, packed_scaled, pairs, texts)
