"""D = A B + C of one matrix instruction, for all waves at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forge.amdgcn.matrix.formats import Elements, Numbers, Words, elements, flushed, from_sums, join, split, to_numbers
from forge.amdgcn.matrix.layout import Layout, layout
from forge.amdgcn.matrix.ops import MatrixOp
from forge.amdgcn.trap import UNKNOWN, Fault

A, B, C = 1, 2, 4  # an operand's bit in neg, neg_hi, op_sel, and in blgp where that negates


def execute(
    op: MatrixOp,
    a: Words,
    b: Words,
    c: Words,
    *,
    cbsz: int = 0,
    abid: int = 0,
    blgp: int = 0,
    neg: int = 0,
    neg_hi: int = 0,
    opsel: int = 0,
    clamp: bool = False,
) -> Words:
    """D[b] = A[b] B[b] + C[b]: a uint32[a_regs, waves, lanes], b and c alike (c may broadcast), to d shaped as c.

    Floats are multiplied and summed in float64 and rounded to D's type once, to nearest even; NaN and infinities go as
    IEEE says, and a NaN's payload is not modelled. Hardware rounds in an order of its own, so a device agrees within
    (k + 1) u (sum |a||b| + |c|), u the unit roundoff of its accumulator (2^-24; 2^-53 for f64). On gfx90a, f16 and
    bf16 MFMA flush denormals of A, B, C and D to zero of their sign, as AMD states; all others keep them. Integers are
    exact, and wrap unless `clamp`. Bits 0, 1, 2 of `neg` (neg_lo), `neg_hi` and `opsel` stand for A, B, C: neg negates
    low halves of A and B, neg_hi high ones; on C neg negates and neg_hi takes the absolute value first; on integers
    neg says that A or B is signed. For f64 on gfx942 and gfx950 the bits of `blgp` negate A, B, C. With op_sel the
    other half of D's registers is C's: compilers rely on it only where D and C are one register.

    EXEC is not looked at: MFMA ignores it, WMMA wants it full. Raises Fault for a modifier that the op does not obey,
    and for copies of A or B that differ where the op wants them equal.
    """
    _check(op, cbsz, abid, blgp, neg, neg_hi, opsel, clamp)
    negated = blgp if "blgp_neg" in op.modifiers else 0
    places = layout(op, cbsz, abid, 0 if negated else blgp)
    waves = a.shape[1]
    c = np.broadcast_to(c, (op.c_regs, waves, op.lanes))
    left = _gather(op, a, op.a_type, places.a, bool(neg & A))
    right = _gather(op, b, op.b_type, places.b, bool(neg & B))
    if op.d_type == "i32":
        return _integer_sum(_product(left, right, places), c, clamp)
    if "neg_ab" in op.modifiers and (neg | neg_hi) & (A | B):
        left = left * np.resize([_sign(neg & A), _sign(neg_hi & A)], op.k)
        right = right * np.resize([_sign(neg & B), _sign(neg_hi & B)], op.k)[:, None]
    product = _product(left, right, places)
    addend = _addend(op, c, opsel)
    if neg_hi & C:
        addend = np.abs(addend)
    if (neg | negated) & C:
        addend = -addend
    if bool(negated & A) != bool(negated & B):
        product = -product
    return _to_registers(op, from_sums(product + addend, op.d_type, flush=op.flush), c, opsel)


def _gather(op: MatrixOp, words: Words, kind: str, places: npt.NDArray[np.intp], signed: bool) -> Numbers:
    if op.copies > 1:
        groups = words.reshape(*words.shape[:2], op.copies, -1)
        if not np.array_equal(groups[:, :, 1:], np.broadcast_to(groups[:, :, :1], groups[:, :, 1:].shape)):
            wave = int(np.nonzero((groups != groups[:, :, :1]).any(axis=(0, 2, 3)))[0][0])
            raise Fault(UNKNOWN, f"{op.name} wants A and B alike in each 16 lanes, and they differ", wave=wave)
    raw = np.take(elements(words, kind), places, axis=1)
    return to_numbers(raw, kind, signed=signed or kind == "i8", flush=op.flush)


def _product(left: Numbers, right: Numbers, places: Layout) -> Numbers:
    """A B as [items, waves, lanes]."""
    product = np.matmul(left, right).reshape(len(left), -1)
    return np.take(product, places.d, axis=1).transpose(1, 0, 2)


def _integer_sum(product: Numbers, c: Words, clamp: bool) -> Words:
    total = product.astype(np.int64) + c.view(np.int32)
    if clamp:
        total = np.clip(total, -(2**31), 2**31 - 1)
    return np.ascontiguousarray(total.astype(np.uint32))


def _addend(op: MatrixOp, c: Words, opsel: int) -> Numbers:
    """C as [items, waves, lanes] numbers."""
    raw: Elements = c
    if op.d_type == "f64":
        raw = join(c)
    elif "half" in op.modifiers:
        raw = (c >> (16 if opsel & C else 0)).astype(np.uint16)
    elif op.d_type in ("f16", "bf16"):
        raw = np.stack([c & 0xFFFF, c >> 16], axis=1).astype(np.uint16).reshape(-1, *c.shape[1:])
    numbers = to_numbers(raw, op.d_type)
    return flushed(numbers, op.d_type) if op.flush else numbers


def _to_registers(op: MatrixOp, raw: Elements, c: Words, opsel: int) -> Words:
    if op.d_type == "f64":
        return split(np.ascontiguousarray(raw))
    if "half" in op.modifiers:
        high = bool(opsel & C)
        kept = c & np.uint32(0xFFFF if high else 0xFFFF0000)
        return kept | (raw.astype(np.uint32) << np.uint32(16 if high else 0))
    if op.d_type in ("f16", "bf16"):
        return raw[0::2].astype(np.uint32) | (raw[1::2].astype(np.uint32) << np.uint32(16))
    return np.ascontiguousarray(raw.astype(np.uint32, copy=False))


def _sign(negative: int) -> float:
    return -1.0 if negative else 1.0


def _check(op: MatrixOp, cbsz: int, abid: int, blgp: int, neg: int, neg_hi: int, opsel: int, clamp: bool) -> None:
    obeys = op.modifiers
    neg_bits = (A | B if "neg_ab" in obeys or "signs" in obeys else 0) | (C if "neg_c" in obeys else 0)
    neg_hi_bits = (A | B if "neg_ab" in obeys else 0) | (C if "neg_c" in obeys else 0)
    refused = {
        "cbsz": (cbsz or abid) and not ("cbsz" in obeys and 1 << cbsz <= op.blocks and abid < 1 << cbsz),
        "blgp": (blgp and not obeys & {"blgp", "blgp_neg"}) or not 0 <= blgp < 8,
        "neg_lo": neg & ~neg_bits,
        "neg_hi": neg_hi & ~neg_hi_bits,
        "op_sel": opsel & ~(C if "half" in obeys else 0),
        "clamp": clamp and "clamp" not in obeys,
    }
    for modifier, bad in refused.items():
        if bad:
            raise Fault(
                UNKNOWN,
                f"{op.name} does not obey this {modifier} (cbsz {cbsz}, abid {abid}, blgp {blgp}, "
                f"neg {neg}, neg_hi {neg_hi}, op_sel {opsel}, clamp {clamp})",
            )
