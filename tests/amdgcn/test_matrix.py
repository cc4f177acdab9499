"""MFMA and WMMA, element by element: every instruction of every architecture against a float64 product.

Layouts and number formats are stated once more in `matrix_elements`, apart from the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
from amdgcn.assembled import assemble_amdgcn
from amdgcn.matrix_elements import ROUND, WAVES, Places, decode, encode, lay_a, lay_c, read_d, round_to

from forge.amdgcn.matrix import UNSUPPORTED, MatrixOp, execute, matrix_op
from forge.amdgcn.matrix.ops import BITS, names
from forge.amdgcn.trap import Fault

cpu = pytest.mark.cpu
ARCHS = {"gfx90a": 64, "gfx942": 64, "gfx950": 64, "gfx1100": 32, "gfx1151": 32, "gfx1201": 32}
ALL = [(arch, name, lanes) for arch, lanes in ARCHS.items() for name in names(arch)]
ALL += [("gfx1100", name, 64) for name in names("gfx1100", lanes=64)]
each_op = pytest.mark.parametrize(("arch", "name", "lanes"), ALL, ids=[f"{a}-{n}-{w}" for a, n, w in ALL])


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


def op_of(arch: str, name: str, lanes: int) -> MatrixOp:
    op = matrix_op(arch, name, lanes=lanes)
    assert op is not None
    return op


def flush(x: np.ndarray, kind: str) -> np.ndarray:
    return np.where(np.abs(x) < 2.0 ** ROUND[kind][1], 0.0, x)


def expected(op: MatrixOp, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """sum over k, then C, then one rounding; gfx90a's f16 and bf16 flush what goes in and out."""
    flushes = re.search(r"\d(f16|bf16|bf16_1k)$", op.name)  # gfx90a's spelling
    if flushes:
        a, b, c = flush(a, op.a_type), flush(b, op.b_type), flush(c, "f32")
    total = np.einsum("wbik,wbkj->wbij", a, b) + c
    if op.d_type == "f64":
        return total
    return flush(round_to(total, op.d_type), "f32") if flushes else round_to(total, op.d_type)


def same(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_array_equal(got, want)


def operands(op: MatrixOp, seed: int, scale: float = 1.0) -> Places:
    rng = np.random.default_rng([seed, *op.name.encode()])
    a = encode(rng.standard_normal((WAVES, op.blocks, op.m, op.k)) * scale, op.a_type)
    b = encode(rng.standard_normal((WAVES, op.blocks, op.k, op.n)), op.b_type)
    c = encode(rng.standard_normal((WAVES, op.blocks, op.m, op.n)) * scale, op.d_type)
    return a, b, c


def run(op: MatrixOp, a: np.ndarray, b: np.ndarray, c: np.ndarray, **modifiers: int) -> np.ndarray:
    half = modifiers.get("opsel", 0) >> 2
    b_words = lay_a(op, b.transpose(0, 1, 3, 2), op.b_type)
    return read_d(op, execute(op, lay_a(op, a, op.a_type), b_words, lay_c(op, c, half=half), **modifiers), half=half)


def values(op: MatrixOp, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Places:
    return decode(a, op.a_type), decode(b, op.b_type), decode(c, op.d_type)


FLOATS = [case for case in ALL if "_i32_" not in case[1]]
INTEGERS = [case for case in ALL if "_i32_" in case[1]]
float_op = pytest.mark.parametrize(("arch", "name", "lanes"), FLOATS, ids=[f"{a}-{n}-{w}" for a, n, w in FLOATS])
integer_op = pytest.mark.parametrize(("arch", "name", "lanes"), INTEGERS, ids=[f"{a}-{n}-{w}" for a, n, w in INTEGERS])


@cpu
@float_op
def test_float_product_rounded_once(arch: str, name: str, lanes: int) -> None:
    op = op_of(arch, name, lanes)
    # ordinary; and so small that A, C and, with f32's exponents, D are denormal
    tiny = {"f16": 2.0**-16, "f32": 2.0**-127, "bf16": 2.0**-127, "xf32": 2.0**-127}.get(op.a_type, 2.0**-8)
    for seed, scale in enumerate((1.0, tiny)):
        bits = operands(op, seed, scale)
        got, want = decode(run(op, *bits), op.d_type), expected(op, *values(op, *bits))
        if op.d_type == "f64":
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)
        else:
            same(got, want)


@cpu
@float_op
def test_edge_values_follow_ieee(arch: str, name: str, lanes: int) -> None:
    op = op_of(arch, name, lanes)
    a, b, c = operands(op, 2)
    edge = {8: 0x80, 16: 1 << 15, 32: 1 << 31, 64: 1 << 63}[BITS[op.a_type]]
    every = np.unique(
        np.concatenate(
            [
                np.array([0, 1, edge, edge | 1, edge - 1], np.uint64),
                encode(np.array([np.inf, -np.inf, np.nan, 1e30, -1e-30]), op.a_type).astype(np.uint64),
            ]
        )
    ).astype(a.dtype)
    for n, bits in enumerate(every):  # one a wave and row, so that no row hides another
        a[n % WAVES, n % op.blocks, n % op.m, n % op.k] = bits
        b[(n + 1) % WAVES, n % op.blocks, n % op.k, (n + 2) % op.n] = bits
    c[0, 0, 0, :4] = encode(np.array([np.inf, -np.inf, np.nan, 3e38]), op.d_type)
    got, want = decode(run(op, a, b, c), op.d_type), expected(op, *values(op, a, b, c))
    assert np.isnan(want).any()
    if op.d_type == "f64":
        np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-14)
    else:
        same(got, want)


def integer_operands(op: MatrixOp, seed: int, a_signed: bool, b_signed: bool) -> tuple[np.ndarray, ...]:
    bits, rng = BITS[op.a_type], np.random.default_rng(seed)
    a = rng.integers(0, 1 << bits, (WAVES, op.blocks, op.m, op.k), dtype=np.uint8)
    b = rng.integers(0, 1 << bits, (WAVES, op.blocks, op.k, op.n), dtype=np.uint8)
    a[0], b[0] = 1 << bits - 1, 1 << bits - 1  # the largest product there is, and
    c = rng.integers(0, 1 << 32, (WAVES, op.blocks, op.m, op.n), dtype=np.uint32)
    c[0, :, :, 0], c[1, :, 0] = 0x7FFFFFFF, 0x80000000  # sums that leave 32 bits

    def number(x: np.ndarray, signed: bool) -> np.ndarray:
        wide = x.astype(np.int64)
        return np.where(wide >= 1 << bits - 1, wide - (1 << bits), wide) if signed else wide

    exact = np.einsum("wbik,wbkj->wbij", number(a, a_signed), number(b, b_signed)) + c.view(np.int32)
    return a, b, c, exact


@cpu
@integer_op
def test_integer_product_is_exact(arch: str, name: str, lanes: int) -> None:
    op = op_of(arch, name, lanes)
    either = op.a_type.startswith("iu")
    for neg in range(4) if either else (0,):
        a, b, c, exact = integer_operands(op, neg, not either or bool(neg & 1), not either or bool(neg & 2))
        same(run(op, a, b, c, neg=neg), exact.astype(np.uint32))
        assert (exact != exact.astype(np.int32)).any()
        if either:
            saturated = np.clip(exact, -(2**31), 2**31 - 1).astype(np.uint32)
            same(run(op, a, b, c, neg=neg, clamp=True), saturated)


@cpu
@each_op
def test_one_hot_lands_on_its_row_and_column(arch: str, name: str, lanes: int) -> None:
    op = op_of(arch, name, lanes)
    one = {"i8": 1, "iu8": 1, "iu4": 1}.get(op.a_type)
    a_one = one or int(encode(np.ones(1), op.a_type)[0])
    b_one = one or int(encode(np.ones(1), op.b_type)[0])
    d_one = one or int(encode(np.ones(1), op.d_type)[0])
    for row, column, k, block in ((0, op.n - 1, op.k - 1, 0), (1, 2, 0, op.blocks - 1), (op.m - 1, 0, 0, 0)):
        a = np.zeros((WAVES, op.blocks, op.m, op.k), np.uint64)
        b, c = np.zeros((WAVES, op.blocks, op.k, op.n), np.uint64), np.zeros((WAVES, op.blocks, op.m, op.n), np.uint64)
        a[1, block, row, k], b[1, block, k, column] = a_one, b_one
        want = c.copy()
        want[1, block, row, column] = d_one
        same(run(op, a, b, c), want)


@cpu
@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("gfx942", "v_mfma_f32_16x16x16_f16"),
        ("gfx90a", "v_mfma_f32_32x32x8bf16_1k"),
        ("gfx942", "v_mfma_f32_16x16x4_f32"),
        ("gfx950", "v_mfma_f32_32x32x16_f16"),
        ("gfx1100", "v_wmma_f32_16x16x16_bf16"),
        ("gfx1201", "v_wmma_f32_16x16x16_f16"),
    ],
)
def test_swapped_operands_are_seen(arch: str, name: str) -> None:
    """A and B are laid out alike, so that swapping them transposes D: no error, and not the same numbers."""
    op = op_of(arch, name, ARCHS[arch])
    a, b, _ = operands(op, 3)
    c = np.zeros((WAVES, op.blocks, op.m, op.n), np.uint32)
    right, swapped = run(op, a, b, c), run(op, b.transpose(0, 1, 3, 2), a.transpose(0, 1, 3, 2), c)
    assert (right != swapped).mean() > 0.9
    same(swapped, right.transpose(0, 1, 3, 2))


MULTI_BLOCK = [(arch, name) for arch, name, _ in ALL if "cbsz" in op_of(arch, name, ARCHS[arch]).modifiers]


@cpu
@pytest.mark.parametrize(("arch", "name"), MULTI_BLOCK)
def test_cbsz_broadcasts_block_abid_of_a(arch: str, name: str) -> None:
    op = op_of(arch, name, 64)
    rng = np.random.default_rng(4)
    shapes = ((op.m, op.k), (op.k, op.n), (op.m, op.n))
    a, b, c = (rng.integers(0, 100, (WAVES, op.blocks, *shape), dtype=np.uint8) for shape in shapes)
    if op.a_type != "i8":
        a, b, c = encode(a.astype(float), op.a_type), encode(b.astype(float), op.b_type), encode(c.astype(float), "f32")
    for cbsz, abid in ((1, 0), (1, 1), (op.blocks.bit_length() - 1, op.blocks - 1)):
        source = [block - block % 2**cbsz + abid for block in range(op.blocks)]
        same(run(op, a, b, c, cbsz=cbsz, abid=abid), run(op, a[:, source], b, c))
    with pytest.raises(Fault, match="cbsz"):
        run(op, a, b, c, cbsz=1, abid=2)


@cpu
@pytest.mark.parametrize("name", ["v_mfma_f32_32x32x1_2b_f32", "v_mfma_f32_4x4x1_16b_f32", "v_mfma_f32_16x16x16_f16"])
def test_blgp_moves_lanes_of_b(name: str) -> None:
    op, rng = op_of("gfx942", name, 64), np.random.default_rng(5)
    shape = op.a_regs, WAVES, 64, 32 // BITS[op.a_type]
    a, b = (encode(rng.standard_normal(shape), op.a_type).view(np.uint32)[..., 0] for _ in range(2))
    c = np.zeros((op.c_regs, WAVES, 64), np.uint32)
    q = np.arange(64).reshape(4, 16)
    quarters = {
        0: (0, 1, 2, 3),
        1: (0, 1, 0, 1),
        2: (2, 3, 2, 3),
        3: (1, 2, 3, 0),
        4: (0, 0, 0, 0),
        5: (1, 1, 1, 1),
        6: (2, 2, 2, 2),
        7: (3, 3, 3, 3),
    }
    for blgp, order in quarters.items():
        same(execute(op, a, b, c, blgp=blgp), execute(op, a, b[..., q[list(order)].ravel()], c))


@cpu
@pytest.mark.parametrize("blgp", range(8))
@pytest.mark.parametrize("name", ["v_mfma_f64_16x16x4_f64", "v_mfma_f64_4x4x4_4b_f64"])
def test_blgp_negates_f64(name: str, blgp: int) -> None:
    op = op_of("gfx942", name, 64)
    bits = operands(op, 6)
    sign_a, sign_b, sign_c = (-1.0 if blgp & bit else 1.0 for bit in (1, 2, 4))
    a, b, c = values(op, *bits)
    got = decode(run(op, *bits, blgp=blgp), "f64")
    np.testing.assert_allclose(got, expected(op, sign_a * a, sign_b * b, sign_c * c), rtol=0, atol=1e-14)


@cpu
@pytest.mark.parametrize(
    ("arch", "name"),
    [
        (arch, name)
        for arch in ("gfx1100", "gfx1201")
        for name in names(arch)
        if "neg_ab" in op_of(arch, name, 32).modifiers
    ],
)
def test_wmma_negates_halves_and_c(arch: str, name: str) -> None:
    op = op_of(arch, name, 32)
    bits = operands(op, 7)
    for neg, neg_hi in ((1, 0), (0, 1), (2, 1), (3, 3), (4, 0), (0, 4), (4, 4), (7, 5)):
        a, b, c = values(op, *bits)
        even = np.arange(op.k) % 2 == 0  # an even k stands in a register's low half
        a = a * np.where(even, -1.0 if neg & 1 else 1.0, -1.0 if neg_hi & 1 else 1.0)
        b = b * np.where(even, -1.0 if neg & 2 else 1.0, -1.0 if neg_hi & 2 else 1.0)[:, None]
        c = np.abs(c) if neg_hi & 4 else c
        c = -c if neg & 4 else c
        same(decode(run(op, *bits, neg=neg, neg_hi=neg_hi), op.d_type), expected(op, a, b, c))


@cpu
@pytest.mark.parametrize(
    ("arch", "name", "fnuz"),
    [
        ("gfx942", "v_mfma_f32_16x16x32_fp8_bf8", True),
        ("gfx950", "v_mfma_f32_16x16x32_fp8_bf8", False),
        ("gfx1201", "v_wmma_f32_16x16x16_fp8_bf8", False),
    ],
)
def test_gfx942_alone_has_fnuz(arch: str, name: str, fnuz: bool) -> None:
    """0x38 is 1 in OCP's e4m3 and 1/2 in FNUZ's, 0x3C the same in e5m2; 0x80 is -0, and NaN."""
    op = op_of(arch, name, ARCHS[arch])
    a, b = np.full((WAVES, 1, op.m, op.k), 0x38), np.full((WAVES, 1, op.k, op.n), 0x3C)
    a[:, :, 3] = 0x80
    want = np.full((WAVES, 1, op.m, op.n), op.k / 4 if fnuz else op.k)
    want[:, :, 3] = np.nan if fnuz else 0
    same(decode(run(op, a, b, np.zeros(want.shape, np.uint32)), "f32"), want)


@cpu
def test_xf32_rounds_ties_to_even() -> None:
    op = op_of("gfx942", "v_mfma_f32_16x16x8_xf32", 64)
    a, b, c = np.zeros((WAVES, 1, 16, 8)), np.zeros((WAVES, 1, 8, 16)), np.zeros((WAVES, 1, 16, 16))
    a[:, :, :4, 0], b[:, :, 0], c[:] = (1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-11 + 2.0**-23, np.inf), 1, 0
    got = decode(run(op, *(encode(x, "f32") for x in (a, b, c))), "f32")
    same(got[0, 0, :4, 0], np.array([1, 1 + 2.0**-9, 1 + 2.0**-10, np.inf]))


@cpu
@pytest.mark.parametrize("arch", ["gfx1100", "gfx1201"])
@pytest.mark.parametrize(("kind", "half_step"), [("f16", 2.0**-11), ("bf16", 2.0**-8)])
def test_16_bit_sums_round_once(arch: str, kind: str, half_step: float) -> None:
    """1 + half a step, and a little that f32 would lose, is above the middle and goes up."""
    op = op_of(arch, f"v_wmma_{kind}_16x16x16_{kind}", 32)
    a, b = np.zeros((WAVES, 1, 16, 16)), np.zeros((WAVES, 1, 16, 16))
    a[..., 0], a[..., 1], b[:, :, 0, :], b[:, :, 1, :] = half_step, 2.0**-14, 1.0, 2.0**-14
    bits = (encode(x, kind) for x in (a, b, np.ones_like(a)))
    same(decode(run(op, *bits), kind), np.full(a.shape, 1 + 2 * half_step))


@cpu
@pytest.mark.parametrize("name", ["v_wmma_f16_16x16x16_f16", "v_wmma_bf16_16x16x16_bf16"])
def test_op_sel_takes_the_high_half_and_keeps_the_low(name: str) -> None:
    op = op_of("gfx1100", name, 32)
    bits = operands(op, 8)
    same(decode(run(op, *bits, opsel=4), op.d_type), expected(op, *values(op, *bits)))


@cpu
def test_an_inline_constant_serves_as_c() -> None:
    op = op_of("gfx942", "v_mfma_f32_32x32x8_f16", 64)
    a, b, _ = operands(op, 9)
    words = lay_a(op, a, "f16"), lay_a(op, b.transpose(0, 1, 3, 2), "f16")
    one = np.full((1, 1), 0x3F800000, np.uint32)
    same(execute(op, *words, one), execute(op, *words, np.broadcast_to(one, (op.c_regs, WAVES, 64))))


@cpu
@pytest.mark.parametrize("name", ["v_wmma_f32_16x16x16_f16", "v_wmma_i32_16x16x16_iu8"])
def test_rdna3_wants_equal_halves_of_the_wave(name: str) -> None:
    op = op_of("gfx1100", name, 32)
    words, c = np.zeros((op.a_regs, WAVES, 32), np.uint32), np.zeros((op.c_regs, WAVES, 32), np.uint32)
    broken = words.copy()
    broken[0, 2, 17] = 1
    for a, b in ((words, broken), (broken, words)):
        with pytest.raises(Fault, match="alike") as fault:
            execute(op, a, b, c)
        assert fault.value.wave == 2


@cpu
@pytest.mark.parametrize(
    ("arch", "name", "modifiers"),
    [
        ("gfx942", "v_mfma_f32_16x16x16_f16", {"cbsz": 1}),
        ("gfx942", "v_mfma_f32_16x16x16_f16", {"neg": 1}),
        ("gfx942", "v_mfma_f32_16x16x8_xf32", {"blgp": 1}),
        ("gfx90a", "v_mfma_f64_16x16x4f64", {"blgp": 1}),
        ("gfx942", "v_mfma_f32_32x32x2_f32", {"clamp": True}),
        ("gfx1100", "v_wmma_f32_16x16x16_f16", {"opsel": 4}),
        ("gfx1100", "v_wmma_f32_16x16x16_f16", {"blgp": 1}),
        ("gfx1100", "v_wmma_i32_16x16x16_iu8", {"neg_hi": 1}),
        ("gfx1201", "v_wmma_f32_16x16x16_fp8_bf8", {"neg": 1}),
        ("gfx1201", "v_wmma_f16_16x16x16_f16", {"opsel": 4}),
    ],
)
def test_a_modifier_not_obeyed_is_refused(arch: str, name: str, modifiers: dict[str, int]) -> None:
    op = op_of(arch, name, ARCHS[arch])
    words, c = np.zeros((op.a_regs, 1, op.lanes), np.uint32), np.zeros((op.c_regs, 1, op.lanes), np.uint32)
    with pytest.raises(Fault, match="does not obey"):
        execute(op, words, words, c, **modifiers)


@cpu
def test_every_matrix_opcode_is_modelled_or_listed() -> None:
    """tinygrad's opcode tables name all there are; gfx950's table still holds gfx942's xf32."""
    from tinygrad.runtime.autogen.amd.cdna.enum import VOP3POp as Cdna
    from tinygrad.runtime.autogen.amd.rdna3.enum import VOP3POp as Rdna3
    from tinygrad.runtime.autogen.amd.rdna4.enum import VOP3POp as Rdna4

    for arch, table in (("gfx950", Cdna), ("gfx1100", Rdna3), ("gfx1201", Rdna4)):
        opcodes = {op.name.lower() for op in table if any(kind in op.name for kind in ("MFMA", "WMMA", "MFMAC"))}
        listed = {name for name in opcodes if name.startswith(tuple(UNSUPPORTED))}
        assert opcodes - listed - {name for name in opcodes if "xf32" in name} == set(names(arch))
        for name in listed:
            with pytest.raises(Fault, match="not modelled"):
                matrix_op(arch, name)
    assert matrix_op("gfx942", "v_mfma_f32_16x16x32_f16") is None
    assert matrix_op("gfx90a", "v_mfma_f32_16x16x16_f16") is None
    assert matrix_op("gfx1201", "v_wmma_f32_16x16x16_f16", lanes=64) is None


@pytest.mark.compile
@each_op
def test_the_assembler_knows_the_name_and_register_counts(
    arch: str, name: str, lanes: int, capfd: pytest.CaptureFixture[str]
) -> None:
    if lanes == 64 and not arch.startswith("gfx9"):
        return  # the assembler's default there is wave32
    op = op_of(arch, name, lanes)

    def span(first: int, count: int) -> str:
        return f"v[{first}:{first + count - 1}]" if count > 1 else f"v{first}"

    c = span(0, op.c_regs)
    assert assemble_amdgcn(f"{name} {c}, {span(64, op.a_regs)}, {span(80, op.b_regs)}, {c}\n", arch, "")
    assert "error" not in capfd.readouterr().err
