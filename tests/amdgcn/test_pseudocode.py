"""AMD's pseudocode as NumPy: every arithmetic opcode runs or is listed, and fast forms equal the text."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tinygrad", reason="the emulator's tables come from tinygrad")

from forge.amdgcn.pseudocode import FAMILIES, meaning
from forge.amdgcn.pseudocode.translate import texts, translate
from forge.errors import UnsupportedError

pytestmark = pytest.mark.cpu

NOT_TRANSLATED = {
    "the program counter, waits, barriers and modes are the machine's": """
        s_alloc_vgpr s_barrier_signal s_barrier_signal_isfirst s_barrier_wait s_branch s_call_b64 s_code_end
        s_cbranch_cdbgsys s_cbranch_cdbgsys_and_user s_cbranch_cdbgsys_or_user s_cbranch_cdbguser s_cbranch_execnz
        s_cbranch_execz s_cbranch_g_fork s_cbranch_i_fork s_cbranch_join s_cbranch_scc0 s_cbranch_scc1
        s_cbranch_vccnz s_cbranch_vccz s_delay_alu s_get_barrier_state s_getpc_b64 s_getreg_b32 s_nop s_rfe_b64
        s_set_gpr_idx_idx s_set_gpr_idx_mode s_set_gpr_idx_off s_set_gpr_idx_on s_setpc_b64 s_setprio s_setreg_b32
        s_setreg_imm32_b32 s_setvskip s_sleep s_swappc_b64 s_trap s_version s_waitcnt s_waitcnt_expcnt
        s_waitcnt_lgkmcnt s_waitcnt_vmcnt s_waitcnt_vscnt""",
    "a register chosen at run time, or other lanes: the machine's": """
        s_movreld_b32 s_movreld_b64 s_movrels_b32 s_movrels_b64 s_movrelsd_2_b32 v_movreld_b32 v_movrels_b32
        v_movrelsd_2_b32 v_movrelsd_b32 v_swaprel_b32 v_permlane16_b32 v_permlane16_swap_b32 v_permlane16_var_b32
        v_permlane32_swap_b32 v_permlane64_b32 v_permlanex16_b32 v_permlanex16_var_b32 v_readfirstlane_b32
        v_readlane_b32 v_writelane_b32""",
    "neg and abs come after a choice of format: the machine's": """
        v_fma_mix_f32 v_fma_mixhi_f16 v_fma_mixlo_f16 v_mad_mix_f32 v_mad_mixhi_f16 v_mad_mixlo_f16""",
    "results wider than 64 bits": "v_mqsad_u32_u8",
    "the text is not enough to tell (stochastic rounding, a byte of the old result), and nothing emits it": """
        v_cvt_pkaccum_u8_f32 v_cvt_sr_bf16_f32 v_cvt_sr_bf8_f32 v_cvt_sr_f16_f32 v_cvt_sr_fp8_f32""",
}
MATRIX_OR_BLOCK_SCALED = re.compile(r"v_\w*(mfma|wmma|smfmac|swmmac)\w*|v_cvt_scalef32_(sr|2xpk16|pk32)_\w*")
MISSING = {name: why for why, names in NOT_TRANSLATED.items() for name in names.split()}


def operands(found: Any, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Random [3, 32] registers, and what else the machine would pass."""
    for name, width in zip(found.inputs, found.widths, strict=True):
        if name in ("VCC", "EXEC"):
            yield rng.integers(0, 2**64, (3, 1), dtype=np.uint64)
        elif name == "laneId":
            yield np.arange(32, dtype=np.uint32)[None]
        elif name == "SCC":
            yield rng.integers(0, 2, (3, 1)).astype(np.uint32)
        elif name in ("S0", "S1", "S2", "D0"):
            shape = ((3, 32), (3, 1), (1, 1))[rng.integers(3)]
            yield rng.integers(0, 2**width, shape, dtype=np.uint64).astype(f"uint{width}")
        else:
            yield rng.integers(0, 2**16, (1, 1)).astype(np.uint32)


def run(family: str, name: str, *values: Any) -> list[np.ndarray]:
    found = meaning(family, name)
    assert found is not None
    with np.errstate(all="ignore"):
        return list(found.run(*values))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_opcode_runs_or_is_listed(family: str) -> None:
    """Outputs have the promised types and shapes, no input changes, nothing warns; and the list has no spare entry."""
    rng = np.random.default_rng(0)
    wrong = []
    for name in texts(family):
        found = meaning(family, name)
        listed = name in MISSING or MATRIX_OR_BLOCK_SCALED.fullmatch(name) is not None
        if (found is None) != listed:
            wrong.append(name)
            continue
        if found is None:
            continue
        values = list(operands(found, rng))
        copies = [value.copy() for value in values]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("error")
            results = found.run(*values)
        for output, result in zip(found.outputs, results, strict=True):
            kind = "bool" if output.per_lane_bit else "uint64" if output.bits == 64 else "uint32"
            assert result.dtype == kind, name
            assert np.broadcast_shapes(result.shape, (3, 32)) == (3, 32), name
            assert output.per_lane_bit or result.max() < 2**output.bits, name
        assert all(np.array_equal(a, b) for a, b in zip(values, copies, strict=True)), name
    assert not wrong


def test_names_the_list_knows_exist() -> None:
    everywhere = {name for family in FAMILIES for name in texts(family)}
    assert set(MISSING) <= everywhere


SPECIALS = np.array(
    [0, 1 << 31, 1, 0x80000001, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00001, 0x7F800001, 0xFFA00000],
    np.uint32,
)
BY_STEPS = """v_bcnt_u32_b32 v_mbcnt_lo_u32_b32 v_mbcnt_hi_u32_b32 v_max_f32 v_min_f32 v_max_num_f32 v_min_num_f32
    v_maximum_f32 v_minimum_f32 v_clz_i32_u32 v_ctz_i32_b32 v_ffbh_u32 v_ffbl_b32 s_flbit_i32_b32 s_ff1_i32_b64
    s_bcnt1_i32_b32 v_dot4_i32_i8 v_dot4c_i32_i8 v_dot4_u32_u8 v_dot4_i32_iu8 v_max_f16 v_min_f64 v_med3_f32"""


@pytest.mark.parametrize("name", BY_STEPS.split())
def test_fast_forms_equal_the_text(name: str) -> None:
    """What is written by hand for speed gives what the packaged text gives, in every family that has it."""
    rng = np.random.default_rng(6)
    seen = 0
    for family in FAMILIES:
        if name not in texts(family) or (family == "cdna" and name in ("v_max_f32", "v_min_f32")):
            continue  # cdna's text tells +0 from -0 by comparing with them, which no comparison does
        found = meaning(family, name)
        assert found is not None
        text = translate(family, name, texts(family)[name], ocp=True)
        for _ in range(3):
            held = dict(zip(found.inputs, operands(found, rng), strict=True))
            for source in ("S0", "S1", "S2"):
                if source in held and held[source].dtype == np.uint32 and "_f" in name:
                    held[source] = np.where(rng.random((3, 32)) < 0.7, rng.choice(SPECIALS, (3, 32)), held[source])
            if "NEG" in held:
                held["NEG"] = np.full((1, 1), rng.integers(4), np.uint32)
            with np.errstate(all="ignore"):
                got = found.run(*(held[i] for i in found.inputs))
                want = text.run(*(held[i] for i in text.inputs))
            for a, b, output in zip(got, want, found.outputs, strict=True):
                if output.float:
                    kind = {16: np.uint16, 32: np.uint32, 64: np.uint64}[output.bits]
                    values = [np.ascontiguousarray(x.astype(kind)).view(f"float{output.bits}") for x in (a, b)]
                    nan = np.isnan(values[0])
                    assert np.array_equal(nan, np.isnan(values[1]))
                    a, b = np.where(nan, 0, a), np.where(nan, 0, b)
                assert np.array_equal(*np.broadcast_arrays(a, b))
        seen += 1
    assert seen


def test_products_of_64_bits_carry() -> None:
    rng = np.random.default_rng(7)
    a, b = (rng.choice(np.array([0, 1, 2**31, 2**32 - 1, 12345], np.uint32), (2, 32)) for _ in range(2))
    c = rng.choice(np.array([0, 1, 2**63, 2**64 - 1, 2**63 - 1], np.uint64), (2, 32))
    for name, signed in (("v_mad_u64_u32", False), ("v_mad_i64_i32", True)):
        low, carry = run("cdna", name, a, b, c)
        for x, y, z, got, bit in zip(a.flat, b.flat, c.flat, low.flat, carry.flat, strict=True):
            x, y, z = int(x), int(y), int(z)
            if signed:
                x, y, z = (v - (v >> (n - 1) << n) for v, n in ((x, 32), (y, 32), (z, 64)))
            exact = x * y + z
            assert (int(got), bool(bit)) == (exact % 2**64, bool(exact >> 64 & 1)), name


def test_byte_permutation() -> None:
    rng = np.random.default_rng(8)
    high, low = (rng.integers(0, 2**32, (4, 32)).astype(np.uint32) for _ in range(2))
    selectors = rng.integers(0, 15, (4, 32, 4)).astype(np.uint8)
    (got,) = run("rdna3", "v_perm_b32", high, low, selectors.view(np.uint32)[..., 0])
    for a, b, chosen, result in zip(high.flat, low.flat, selectors.reshape(-1, 4), got.flat, strict=True):
        data = (int(a) << 32 | int(b)).to_bytes(8, "little")
        signs = [0xFF if data[i] & 0x80 else 0 for i in (1, 3, 5, 7)]
        assert int(result).to_bytes(4, "little") == bytes([*data, *signs, 0, 255, 255][i] for i in chosen)


def f32(*values: float) -> np.ndarray:
    return np.array([values], np.float32).view(np.uint32)


def u32(*values: int) -> np.ndarray:
    return np.array([values], np.int64).astype(np.uint32)


def u64(*values: int) -> np.ndarray:
    return np.array([values], np.uint64)


SPOTS: list[tuple[str, str, tuple[np.ndarray, ...], tuple[list[int], ...]]] = [
    ("rdna3", "v_add_f32", (f32(1.5), f32(2.25)), (f32(3.75)[0].tolist(),)),
    ("rdna3", "v_dual_add_f32", (f32(1.5), f32(2.25)), (f32(3.75)[0].tolist(),)),
    ("cdna", "v_ashrrev_i32", (u32(4, 33), u32(-64, -64)), ([2**32 - 4, 2**32 - 32],)),
    ("cdna", "s_bfe_u32", (u32(0xABCD1234, 0xABCD1234), u32(8 | 8 << 16, 0 | 32 << 16)), ([0x12, 0xABCD1234], [1, 1])),
    ("cdna", "s_bfe_i32", (u32(0x0000F000, 0x7000), u32(12 | 4 << 16, 12 | 0 << 16)), ([2**32 - 1, 0], [1, 0])),
    ("cdna", "s_add_i32", (u32(2**31 - 1, 5), u32(1, -6)), ([2**31, 2**32 - 1], [1, 0])),
    ("cdna", "v_cndmask_b32", (u32(1, 1), u32(2, 2), u64(0b10), u32(0, 1)), ([1, 2],)),
    ("cdna", "v_addc_co_u32", (u32(2**32 - 1, 1), u32(0, 1), u64(0b01), u32(0, 1)), ([0, 2], [1, 0])),
    ("rdna3", "s_and_saveexec_b32", (u32(0b0110), u64(0b1100)), ([0b1100], [0b0100], [1])),
    ("cdna", "v_alignbit_b32", (u32(0x12345678), u32(0x9ABCDEF0), u32(8)), ([0x789ABCDE],)),
    ("rdna3", "v_lerp_u8", (u32(0xFF0000FF), u32(0xFF000001), u32(0x01000000)), ([0xFF000080],)),
    ("cdna", "v_mul_hi_i32", (u32(-2), u32(3)), ([2**32 - 1],)),
    ("rdna3", "v_mul_i32_i24", (u32(0xFFFFFF), u32(0x7FFFFF)), ([2**32 - 0x7FFFFF],)),
    ("rdna3", "v_bfrev_b32", (u32(0x1, 0x80000002),), ([0x80000000, 0x40000001],)),
    ("cdna", "v_cmp_class_f32", (f32(-np.inf, 1e-40, 0), u32(1 << 2, 1 << 7, 1 << 5)), ([1, 1, 0],)),
    ("rdna3", "v_cmp_nlg_f32", (f32(np.nan, 1, 1), f32(1, 1, 2)), ([1, 1, 0],)),
    ("rdna3", "v_rndne_f32", (f32(0.49999997, 2.5, -1.5),), (f32(0, 2, -2)[0].tolist(),)),
    ("rdna3", "v_fract_f32", (f32(-1e-20, 1.25),), (f32(1 - 2**-24, 0.25)[0].tolist(),)),
    ("rdna3", "v_exp_f32", (f32(3, -140, -np.inf),), (f32(8, 0, 0)[0].tolist(),)),
    ("rdna3", "v_rcp_f32", (f32(1e-40, 3e38, -0.0),), (f32(np.inf, 0, -np.inf)[0].tolist(),)),
    ("rdna3", "v_ldexp_f32", (f32(1.5, 1, 2**-149), u32(-2, -149, 200)), (f32(0.375, 2**-149, 2**51)[0].tolist(),)),
    ("rdna3", "v_pk_add_i16", (u32(0x7FFF_FFFF), u32(0x0001_0001)), ([0x8000_0000],)),
    ("cdna", "v_pk_mov_b32", (u64(1 << 32 | 2), u64(3 << 32 | 4), u32(0b10)), ([3 << 32 | 2],)),
    ("rdna4", "v_cvt_pk_fp8_f32", (f32(1), f32(-2), u32(0xAAAAAAAA), u32(8), u32(0)), ([0xC038AAAA],)),
    ("rdna4", "v_cvt_pk_fp8_f32", (f32(1), f32(-2), u32(0xAAAAAAAA), u32(0), u32(0)), ([0xAAAAC038],)),
    ("rdna4", "v_cvt_pk_fp8_f32", (f32(1e9), f32(-500), u32(0), u32(0), u32(1)), ([0xFE7E],)),
    ("cdna", "v_cvt_pk_bf8_f32", (f32(1), f32(-2), u32(0xAAAAAAAA), u32(0), u32(0)), ([0xAAAAC440],)),
    ("rdna3", "v_div_scale_f32", (f32(1, 1), f32(1, 1), f32(2**96, 2**95)), (f32(2**64, 1)[0].tolist(), [1, 0])),
    ("rdna3", "s_bitset1_b64", (u32(40), u64(1)), ([1 << 40 | 1],)),
    ("rdna3", "v_frexp_exp_i32_f32", (f32(1e-40, 0, 8, np.inf),), ([2**32 - 132, 0, 4, 0],)),
]


@pytest.mark.parametrize("spot", SPOTS, ids=lambda spot: f"{spot[0]}-{spot[1]}")
def test_spots(spot: tuple[str, str, tuple[np.ndarray, ...], tuple[list[int], ...]]) -> None:
    family, name, values, want = spot
    got = run(family, name, *values)
    assert [result[0].astype(np.uint64).tolist() for result in got] == list(want)


CLAMPED = [
    ("cdna", "v_add_u32", (u32(2**32 - 1, 5), u32(7, 6)), [2**32 - 1, 11]),
    ("cdna", "v_sub_u32", (u32(3, 9), u32(7, 4)), [0, 5]),
    ("rdna3", "v_add_nc_i32", (u32(2**31 - 1, -(2**31)), u32(1, -1)), [2**31 - 1, 2**31]),
    ("rdna3", "v_dot4_i32_iu8", (u32(0x7F7F7F7F), u32(0x7F7F7F7F), u32(2**31 - 5), u32(3)), [2**31 - 1]),
    ("cdna", "v_dot4_i32_i8", (u32(0x80808080), u32(0x7F7F7F7F), u32(-(2**31) + 5)), [2**31]),
    ("cdna", "v_pk_add_i16", (u32(0x7FFF8000), u32(0x0001FFFF)), [0x7FFF8000]),
    ("cdna", "v_pk_sub_u16", (u32(0x00050002), u32(0x00020005)), [0x00030000]),
]


@pytest.mark.parametrize(("family", "name", "values", "want"), CLAMPED)
def test_integer_clamp_saturates(family: str, name: str, values: Any, want: list[int]) -> None:
    found = meaning(family, name, clamp=True)
    assert found is not None
    with np.errstate(all="ignore"):
        assert found.run(*values)[0][0].tolist() == want


def test_clamp_without_a_known_meaning_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="v_mad_u32_u24"):
        meaning("cdna", "v_mad_u32_u24", clamp=True)


def test_what_is_no_arithmetic_has_no_meaning() -> None:
    of: Callable[[str], Any] = lambda name: meaning("cdna", name)  # noqa: E731
    assert of("s_barrier") is None and of("global_load_dword") is None and of("v_mfma_f32_16x16x16_f16") is None
