"""Which matrix instructions an architecture has, by the name its assembler prints.

Source: AMD's ISA documents (MI200, MI300, CDNA4, RDNA3, RDNA4), sections on MFMA and WMMA. Names and register counts
are those that LLVM's assembler accepts for the architecture; gfx90a spells a name without the blocks and without the
underscore before the type (`v_mfma_f32_32x32x4bf16_1k`), gfx942 on with both (`v_mfma_f32_32x32x4_2b_bf16`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from forge.amdgcn.trap import UNKNOWN, Fault

BITS: Final = {
    "f64": 64,
    "f32": 32,
    "xf32": 32,
    "i32": 32,
    "f16": 16,
    "bf16": 16,
    "i8": 8,
    "iu8": 8,
    "iu4": 4,
    "fp8": 8,
    "bf8": 8,
    "fp8fnuz": 8,
    "bf8fnuz": 8,
}

# The first letters of a name, and why `matrix_op` refuses it: no kernel of ours emits these.
UNSUPPORTED: Final = {
    "v_smfmac_": "sparse A with an index register",
    "v_swmmac_": "sparse A with an index register",
    "v_mfma_f32_16x16x128_f8f6f4": "fp8, fp6 and fp4 chosen by cbsz and blgp",
    "v_mfma_f32_32x32x64_f8f6f4": "fp8, fp6 and fp4 chosen by cbsz and blgp",
    "v_mfma_scale_": "block scales in further registers",
    "v_mfma_ld_scale_b32": "block scales in further registers",
}


@dataclass(frozen=True)
class MatrixOp:
    """D[b] = A[b] B[b] + C[b] for `blocks` products of m x k by k x n, spread over one wave of `lanes`.

    Registers are dwords a lane. `rows` is how many neighbouring rows of D one lane holds before the next lanes take
    over; `copies` how often the wave holds A and B (RDNA3 wants them in each group of 16 lanes). `modifiers` names
    what the instruction obeys: "cbsz" (with abid), "blgp" (lanes of B), "blgp_neg" (blgp negates A, B, C), "neg_ab",
    "neg_c", "signs" (neg tells signed A and B), "half" (op_sel picks the half of C and D), "clamp".
    `flush`: denormals of A, B, C and D become zero.
    """

    name: str
    m: int
    n: int
    k: int
    blocks: int
    a_type: str
    b_type: str
    d_type: str
    a_regs: int
    b_regs: int
    c_regs: int
    flops: int
    lanes: int
    rows: int
    copies: int
    modifiers: frozenset[str]
    flush: bool = False


def matrix_op(arch: str, name: str, *, lanes: int | None = None) -> MatrixOp | None:
    """The matrix instruction `name` of `arch`, or None where that has none of this name.

    `lanes` is the wave's size, 64 on gfx9 and 32 on the others unless told; RDNA3 has both, RDNA4 is known for 32.
    Raises Fault for what `UNSUPPORTED` lists.
    """
    reason = next((why for start, why in UNSUPPORTED.items() if name.startswith(start)), None)
    if reason is not None:
        raise Fault(UNKNOWN, f"{name} is not modelled: {reason}")
    return _catalogue(arch, lanes or (64 if arch.startswith("gfx9") else 32)).get(name)


def names(arch: str, *, lanes: int | None = None) -> tuple[str, ...]:
    """All names that `matrix_op` knows for `arch`."""
    return tuple(_catalogue(arch, lanes or (64 if arch.startswith("gfx9") else 32)))


@cache
def _catalogue(arch: str, lanes: int) -> dict[str, MatrixOp]:
    if arch in ("gfx90a", "gfx942", "gfx950") and lanes == 64:
        return {op.name: op for op in _mfma(arch)}
    if arch.startswith("gfx11") and lanes in (32, 64):
        return {op.name: op for op in _wmma_rdna3(lanes)}
    if arch in ("gfx1200", "gfx1201") and lanes == 32:
        return {op.name: op for op in _wmma_rdna4()}
    return {}


Shape = tuple[int, int, int]  # (m, k, blocks); n = m
Shapes = tuple[Shape, ...]

_F32: Shapes = ((32, 1, 2), (16, 1, 4), (4, 1, 16), (32, 2, 1), (16, 4, 1))
_HALF: Shapes = ((32, 4, 2), (16, 4, 4), (4, 4, 16), (32, 8, 1), (16, 16, 1))
_BF16_FIRST: Shapes = ((32, 2, 2), (16, 2, 4), (4, 2, 16), (32, 4, 1), (16, 8, 1))
_F64: Shapes = ((16, 4, 1), (4, 4, 4))
_DOUBLED: Shapes = ((16, 32, 1), (32, 16, 1))
_FP8 = tuple((a, b) for a in ("fp8", "bf8") for b in ("fp8", "bf8"))


def _mfma(arch: str) -> Iterator[MatrixOp]:
    lane_groups = frozenset({"blgp"})
    if arch == "gfx90a":
        for shapes, kind, suffix in (
            (_F32, "f32", "f32"),
            (_HALF, "f16", "f16"),
            (_HALF, "bf16", "bf16_1k"),
            (_BF16_FIRST, "bf16", "bf16"),
            (_HALF, "i8", "i8"),
        ):
            for m, k, blocks in shapes:
                dest = "i32" if kind == "i8" else "f32"
                name, flush = f"v_mfma_{dest}_{m}x{m}x{k}{suffix}", kind in ("f16", "bf16")
                yield _dense(name, (m, k, blocks), (kind, kind, dest), lane_groups, flush=flush)
        for m, k, blocks in _F64:
            yield _dense(f"v_mfma_f64_{m}x{m}x{k}f64", (m, k, blocks), ("f64",) * 3, frozenset())
        return
    for shapes, kind, modifiers in (
        (_F32, "f32", lane_groups),
        (_HALF, "f16", lane_groups),
        (_HALF, "bf16", lane_groups),
        (_HALF[:3], "i8", lane_groups),
        (_DOUBLED, "i8", frozenset()),
        (_F64, "f64", frozenset({"blgp_neg"})),
    ):
        yield from (_spelled(shape, kind, modifiers) for shape in shapes)
    if arch == "gfx942":
        yield from (_spelled(shape, "xf32", frozenset()) for shape in ((16, 8, 1), (32, 4, 1)))
    else:
        yield from (_spelled(shape, kind, frozenset()) for kind in ("f16", "bf16") for shape in _DOUBLED)
        yield from (_spelled(shape, "i8", frozenset()) for shape in ((16, 64, 1), (32, 32, 1)))
    kind_of_8 = "fnuz" if arch == "gfx942" else ""
    for m, k, blocks in _DOUBLED:
        for a, b in _FP8:
            types = (a + kind_of_8, b + kind_of_8, "f32")
            yield _dense(f"v_mfma_f32_{m}x{m}x{k}_{a}_{b}", (m, k, blocks), types, frozenset())


def _spelled(shape: Shape, kind: str, modifiers: frozenset[str]) -> MatrixOp:
    m, k, blocks = shape
    dest = {"i8": "i32", "f64": "f64"}.get(kind, "f32")
    name = f"v_mfma_{dest}_{m}x{m}x{k}_{f'{blocks}b_' if blocks > 1 else ''}{kind}"
    return _dense(name, shape, (kind, kind, dest), modifiers)


def _dense(
    name: str, shape: Shape, types: tuple[str, ...], modifiers: frozenset[str], *, flush: bool = False
) -> MatrixOp:
    """An MFMA; with several blocks it obeys cbsz where it obeys blgp."""
    if shape[2] > 1 and "blgp" in modifiers:
        modifiers |= {"cbsz"}
    return _op(name, shape, types, 64, 1 if types[2] == "f64" else 4, 1, modifiers, flush=flush)


_WMMA_TYPES = (("f16", "f32"), ("bf16", "f32"), ("f16", "f16"), ("bf16", "bf16"), ("iu8", "i32"), ("iu4", "i32"))
_INTEGER = frozenset({"signs", "clamp"})
_FLOAT = frozenset({"neg_ab", "neg_c"})


def _wmma_rdna3(lanes: int) -> Iterator[MatrixOp]:
    for kind, dest in _WMMA_TYPES:
        modifiers = _INTEGER if dest == "i32" else _FLOAT if dest == "f32" else _FLOAT | {"half"}
        yield _op(f"v_wmma_{dest}_16x16x16_{kind}", (16, 16, 1), (kind, kind, dest), lanes, 1, lanes // 16, modifiers)


def _wmma_rdna4() -> Iterator[MatrixOp]:
    for kind, dest in _WMMA_TYPES:
        modifiers = _INTEGER if dest == "i32" else _FLOAT
        yield _op(f"v_wmma_{dest}_16x16x16_{kind}", (16, 16, 1), (kind, kind, dest), 32, 8, 1, modifiers)
    yield _op("v_wmma_i32_16x16x32_iu4", (16, 32, 1), ("iu4", "iu4", "i32"), 32, 8, 1, _INTEGER)
    for a, b in _FP8:
        yield _op(f"v_wmma_f32_16x16x16_{a}_{b}", (16, 16, 1), (a, b, "f32"), 32, 8, 1, frozenset({"neg_c"}))


def _op(
    name: str,
    shape: Shape,
    types: tuple[str, ...],
    lanes: int,
    rows: int,
    copies: int,
    modifiers: frozenset[str],
    *,
    flush: bool = False,
) -> MatrixOp:
    m, k, blocks = shape
    a, b, dest = types
    # With "half", a register of C and D holds one element, in the half that op_sel names.
    dest_bits = 32 if "half" in modifiers else BITS[dest]
    return MatrixOp(
        name=name,
        m=m,
        n=m,
        k=k,
        blocks=blocks,
        a_type=a,
        b_type=b,
        d_type=dest,
        a_regs=m * k * blocks * copies * BITS[a] // (32 * lanes),
        b_regs=m * k * blocks * copies * BITS[b] // (32 * lanes),
        c_regs=m * m * blocks * dest_bits // (32 * lanes),
        flops=2 * m * m * k * blocks,
        lanes=lanes,
        rows=rows,
        copies=copies,
        modifiers=modifiers,
        flush=flush,
    )
