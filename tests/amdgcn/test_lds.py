"""LDS and the lane crossbar: widths, two-address forms, permutes in the pseudocode's words, and what must trap."""

from __future__ import annotations

import numpy as np
import pytest
from amdgcn.accessed import run, state

from forge.amdgcn.state.lds import Lds, conflicts
from forge.amdgcn.trap import MISALIGNED, OUT_OF_BOUNDS, RACE, UNINITIALIZED, Fault

pytestmark = pytest.mark.compile

ARCHS = ("gfx90a", "gfx942", "gfx1100", "gfx1201")
WIDTHS = [("b32", 4), ("b64", 8), ("b96", 12), ("b128", 16)]
NARROW = [
    ("u8", 1, False, 0), ("i8", 1, True, 0), ("u16", 2, False, 0), ("i16", 2, True, 0), ("u8_d16", 1, False, 1),
    ("u8_d16_hi", 1, False, 2), ("i8_d16", 1, True, 1), ("i8_d16_hi", 1, True, 2), ("u16_d16", 2, False, 1),
    ("u16_d16_hi", 2, False, 2),
]  # fmt: skip
SIZE = 8192


def words(arch, what):
    return {"load": "read", "store": "write"}[what] if arch[3] == "9" else what


def span(first, dwords):
    return f"v{first}" if dwords == 1 else f"v[{first}:{first + dwords - 1}]"


def filled(arch, **kinds):
    """A state of two workgroups whose LDS holds noise, and that LDS as bytes of each group."""
    w = state(arch, lds=SIZE, groups=2, **kinds)
    w.lds.cells.octets[:] = np.random.default_rng(2).integers(0, 256, 2 * SIZE)
    w.lds.cells.flags.octets[:] = 1
    w.vgpr[1] = np.random.default_rng(4).permutation(SIZE // 32 - 40)[: w.n * w.lanes].reshape(w.n, w.lanes) * 32
    return w, w.lds.cells.octets.reshape(2, SIZE)


def lanes_of(w):
    return zip(*np.nonzero(w.active), strict=True)


@pytest.mark.parametrize("arch", ARCHS)
def test_wide_loads_and_stores_move_the_bytes_of_their_own_workgroup(arch):
    for word, size in WIDTHS:
        w, held = filled(arch)
        before, count = w.vgpr.copy(), size // 4
        run(arch, f"ds_{words(arch, 'load')}_{word} {span(8, count)}, v1 offset:300", w)
        want = before.copy()
        for i, lane in lanes_of(w):
            at = int(before[1, i, lane]) + 300
            want[8 : 8 + count, i, lane] = held[w.group[i], at : at + size].view(np.uint32)
        np.testing.assert_array_equal(w.vgpr, want)
        stored = held.copy()
        for i, lane in lanes_of(w):
            at = int(before[1, i, lane]) + 4
            stored[w.group[i], at : at + size] = np.ascontiguousarray(w.vgpr[16 : 16 + count, i, lane]).view(np.uint8)
        run(arch, f"ds_{words(arch, 'store')}_{word} v1, {span(16, count)} offset:4", w)
        np.testing.assert_array_equal(held, stored)


@pytest.mark.parametrize("arch", ARCHS)
def test_narrow_forms_extend_or_keep_the_other_half(arch):
    for word, size, signed, half in NARROW:
        w, held = filled(arch)
        w.vgpr[1] += size
        before = w.vgpr.copy()
        run(arch, f"ds_{words(arch, 'load')}_{word} v8, v1 offset:2", w)
        want = before.copy()
        for i, lane in lanes_of(w):
            at = int(before[1, i, lane]) + 2
            number = int.from_bytes(held[w.group[i], at : at + size].tobytes(), "little", signed=signed)
            old = int(before[8, i, lane])
            if half:
                number = number & 0xFFFF | old & 0xFFFF0000 if half == 1 else (number & 0xFFFF) << 16 | old & 0xFFFF
            want[8, i, lane] = number & 0xFFFFFFFF
        np.testing.assert_array_equal(w.vgpr, want, err_msg=word)
    for word, size, first in (("b8", 1, 0), ("b16", 2, 0), ("b8_d16_hi", 1, 2), ("b16_d16_hi", 2, 2)):
        w, held = filled(arch)
        want = held.copy()
        for i, lane in lanes_of(w):
            data = int(w.vgpr[8, i, lane]).to_bytes(4, "little")[first : first + size]
            want[w.group[i], int(w.vgpr[1, i, lane]) + 2 :][:size] = list(data)
        run(arch, f"ds_{words(arch, 'store')}_{word} v1, v8 offset:2", w)
        np.testing.assert_array_equal(held, want, err_msg=word)


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "gfx1201"])
@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("size", [4, 8])
def test_two_address_forms_scale_their_offsets(arch, far, size):
    w, held = filled(arch)
    w.vgpr[1] %= 1024
    count, scale, word = size // 4, size * (64 if far else 1), f"b{size * 8}"
    if arch == "gfx942":
        load, store = (f"ds_{what}2{'st64' if far else ''}_{word}" for what in ("read", "write"))
    else:
        load, store = (f"ds_{what}_2addr{'_stride64' if far else ''}_{word}" for what in ("load", "store"))
    run(arch, f"{load} {span(8, 2 * count)}, v1 offset0:1 offset1:5", w)
    for i, lane in lanes_of(w):
        at = int(w.vgpr[1, i, lane])
        for k, offset in ((0, 1), (count, 5)):
            want = held[w.group[i], at + offset * scale :][:size].view(np.uint32)
            np.testing.assert_array_equal(w.vgpr[8 + k : 8 + k + count, i, lane], want)
    w.vgpr[1] = np.arange(w.n * w.lanes).reshape(w.n, w.lanes) * 2 * size
    w.active[w.group == 1] = False
    second = 8 if far else 2
    want = held[0].copy()
    for i, lane in lanes_of(w):
        at = int(w.vgpr[1, i, lane])
        for k, offset in ((16, 3), (20, second)):
            data = np.ascontiguousarray(w.vgpr[k : k + count, i, lane]).view(np.uint8)
            want[at + offset * scale :][:size] = data
    run(arch, f"{store} v1, {span(16, count)}, {span(20, count)} offset0:3 offset1:{second}", w)
    np.testing.assert_array_equal(held[0], want)


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "gfx1201"])
def test_permutes_do_what_the_pseudocode_says(arch):
    w = state(arch)
    n, lanes = w.n, w.lanes
    before = w.vgpr.copy()
    run(arch, "ds_bpermute_b32 v8, v1, v2 offset:8", w)
    run(arch, "ds_permute_b32 v9, v1, v2 offset:12", w)
    for i in range(n):
        pulled, pushed = [0] * lanes, [0] * lanes
        for lane in range(lanes):
            source = (int(before[1, i, lane]) + 8 & 0xFFFFFFFF) // 4 % lanes
            if w.active[i, source]:
                pulled[lane] = before[2, i, source]
            if w.active[i, lane]:
                pushed[(int(before[1, i, lane]) + 12 & 0xFFFFFFFF) // 4 % lanes] = before[2, i, lane]
        np.testing.assert_array_equal(w.vgpr[8, i], np.where(w.active[i], pulled, before[8, i]))
        np.testing.assert_array_equal(w.vgpr[9, i], np.where(w.active[i], pushed, before[9, i]))


SWIZZLES = [
    0x041F,
    0x081F,
    0x7C1F,
    0x0018,
    0x02B5,
    0x80E4,
    0x8055,
    0x801B,
    0xC020,
    0xC420,
    0xC063,
    0xE000,
    0xE010,
    0xE01F,
]


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100"])
@pytest.mark.parametrize("offset", SWIZZLES)
def test_swizzles_read_the_lane_that_the_isa_s_words_name(arch, offset):
    w = state(arch)
    before = w.vgpr.copy()
    run(arch, f"ds_swizzle_b32 v8, v2 offset:{offset}", w)
    for lane in range(w.lanes):
        low, mask = lane & 31, offset & 31
        if offset >= 0xE000:
            source = int(f"{low:05b}"[::-1], 2) >> bin(mask).count("1") | low & mask
        elif offset >= 0xC000:
            turn = (offset >> 5 & 31) * (-1 if offset >> 10 & 1 else 1)
            source = low & mask | (low + turn) % 32 & (31 - mask)
        elif offset >= 0x8000:
            source = low - low % 4 + (offset >> 2 * (low % 4)) % 4
        else:
            source = (low & mask | offset >> 5 & 31) ^ (offset >> 10 & 31)
        source += lane & 32
        for i in range(w.n):
            got = before[2, i, source] if w.active[i, source] else 0
            assert w.vgpr[8, i, lane] == (got if w.active[i, lane] else before[8, i, lane])


def test_swizzles_have_their_documented_meanings():
    """Named patterns: swap neighbours, reverse 32 lanes, broadcast lane 0 of 8, FFT of 32 points, no change."""
    w = state("gfx1100", full=True)
    w.vgpr[2] = np.arange(32)
    for offset, want in (
        (0x041F, np.arange(32) ^ 1), (0x7C1F, np.arange(32)[::-1]), (0x0018, np.arange(32) // 8 * 8),
        (0xE000, [int(f"{i:05b}"[::-1], 2) for i in range(32)]), (0xE01F, np.arange(32)),
        (0xC020, np.roll(np.arange(32), -1)), (0x8000, np.arange(32) // 4 * 4),
    ):  # fmt: skip
        run("gfx1100", f"ds_swizzle_b32 v8, v2 offset:{offset}", w)
        np.testing.assert_array_equal(w.vgpr[8, 0], want)


@pytest.mark.parametrize("bits", [4, 6, 8, 16])
def test_a_transposed_read_turns_a_tile_so_that_k_is_consecutive_in_a_lane(bits):
    """A tile element[k][m], m fastest, read by 16 lanes in order: lane m must hold k = 0, 1, 2 ... of its column."""
    size = 12 if bits == 6 else 8
    rows = size * 8 // bits
    w = state("gfx950", full=True, lds=16 * size * 4, groups=3)
    tiles = np.random.default_rng(1).integers(0, 1 << bits, (3, 4, rows, 16))
    for group in range(3):
        stream = b"".join(
            sum(int(e) << bits * j for j, e in enumerate(tile.ravel())).to_bytes(16 * size, "little")
            for tile in tiles[group]
        )
        w.lds.cells.octets[group * w.lds.stride :][: len(stream)] = list(stream)
    w.lds.cells.flags.octets[:] = 1
    w.vgpr[1] = np.arange(64) * size
    run("gfx950", f"ds_read_b{size * 8}_tr_b{bits} v[8:{8 + size // 4 - 1}], v1", w)
    for i in range(3):
        for lane in range(64):
            number = sum(int(w.vgpr[8 + k, i, lane]) << 32 * k for k in range(size // 4))
            got = [number >> bits * k & (1 << bits) - 1 for k in range(rows)]
            assert got == tiles[i, lane // 16, :, lane % 16].tolist()


def test_lds_traps_name_the_wave_and_the_lane():
    w = state("gfx1100", lds=256, groups=2)
    w.vgpr[1] = np.arange(32) * 4 % 128
    run("gfx1100", "ds_store_b16 v1, v2 offset:2", w)
    for line, lane_address, kind in (
        ("ds_load_u16 v8, v1 offset:2", 0x100, OUT_OF_BOUNDS),
        ("ds_load_u16 v8, v1 offset:2", 0xFFFFFFFE, OUT_OF_BOUNDS),
        ("ds_store_b128 v1, v[4:7] offset:4", 240, OUT_OF_BOUNDS),
        ("ds_load_b32 v8, v1 offset:4", 2, MISALIGNED),
        ("ds_load_b64 v[8:9], v1 offset:4", 2, MISALIGNED),
        ("ds_load_u16 v8, v1 offset:2", 4 * 33, UNINITIALIZED),
        ("ds_load_b32 v8, v1", 4, UNINITIALIZED),  # of which only the upper half was stored
    ):
        old = w.vgpr[1, 2, 31].copy()
        w.vgpr[1, 2, 31] = lane_address
        w.active[:] = False
        w.active[2, 31] = True
        with pytest.raises(Fault) as caught:
            run("gfx1100", line, w)
        assert (caught.value.kind, caught.value.wave, caught.value.lane) == (kind, 2, 31)
        w.vgpr[1, 2, 31] = old
        w.exec_changed()
    run("gfx1100", "ds_load_u16 v8, v1 offset:2", w)
    last = w.active[1:]  # the waves whose store no other wave of their group followed
    np.testing.assert_array_equal(w.vgpr[8, 1:][last], (w.vgpr[2, 1:] & 0xFFFF)[last])


def test_what_another_workgroup_stored_is_not_there():
    w = state("gfx1100", n=2, lds=256, groups=2)
    w.vgpr[1] = np.arange(32) * 4
    w.active[1] = False
    run("gfx1100", "ds_store_b32 v1, v2", w)
    run("gfx1100", "ds_load_b32 v3, v1", w)
    w.exec_changed()
    with pytest.raises(Fault) as caught:
        run("gfx1100", "ds_load_b32 v3, v1", w)
    assert (caught.value.kind, caught.value.wave) == (UNINITIALIZED, 1)


def test_lanes_that_are_off_give_zero():
    at = Lds(1, 64).at(np.array([0]), np.array([0]))
    places, on = np.array([[0, 4]], np.uint32), np.array([[True, False]])
    at.store(places, None, 4, np.full((1, 1, 2), 9, np.uint32))
    assert at.load(places, on, 4).ravel().tolist() == [9, 0]
    assert at.load(places, on & False, 4).ravel().tolist() == [0, 0]


def touch(lds, what, wave, address, group=0, value=None):
    at = lds.at(np.array([group]), np.array([wave]))
    places = np.array([[address]], np.uint32)
    if what == "store":
        at.store(places, None, 4, np.full((1, 1, 1), wave if value is None else value, np.uint32))
    else:
        at.load(places, None, 4)


@pytest.mark.parametrize("first", ["load", "store"])
@pytest.mark.parametrize("second", ["load", "store"])
def test_two_waves_race_where_one_writes_and_no_barrier_is_between(first, second):
    lds = Lds(2, 64, check_races=True)
    lds.cells.flags.octets[:] = 1
    touch(lds, first, 0, 16)
    touch(lds, second, 0, 16)  # a wave does not race with itself
    touch(lds, first, 0, 8)
    touch(lds, second, 1, 12)  # nor with another dword
    touch(lds, second, 1, 8, group=1)  # nor with another workgroup
    if first == second == "load":
        touch(lds, second, 1, 8)
        return
    with pytest.raises(Fault) as caught:
        touch(lds, second, 1, 8)
    assert caught.value.kind == RACE
    lds.barrier(np.array([0]))
    touch(lds, second, 1, 8)


def test_waves_that_store_to_one_dword_in_one_instruction_race():
    lds = Lds(1, 64, check_races=True)
    at = lds.at(np.array([0, 0]), np.array([4, 5]))
    places = np.array([[0, 4], [8, 4]], np.uint32)
    values = np.arange(4, dtype=np.uint32).reshape(1, 2, 2)
    with pytest.raises(Fault, match="wave 5") as caught:
        at.store(places, None, 4, values)
    assert caught.value.kind == RACE
    lds.barrier(np.array([0]))
    at.store(places, np.array([[True, True], [True, False]]), 4, values)


def test_waves_that_store_the_same_value_do_not_race_and_who_reads_it_without_does():
    lds = Lds(1, 64, check_races=True)
    at = lds.at(np.array([0, 0]), np.array([0, 1]))
    at.store(np.array([[0, 4], [0, 4]], np.uint32), None, 4, np.full((1, 2, 2), 9, np.uint32))
    touch(lds, "store", 2, 4, value=9)
    touch(lds, "load", 0, 4)
    touch(lds, "store", 1, 4, value=9)  # again, after wave 0 has read it
    for what, wave, value in (("store", 3, 8), ("load", 3, None), ("store", 0, 7)):
        with pytest.raises(Fault) as caught:
            touch(lds, what, wave, 4, value=value)
        assert caught.value.kind == RACE


def test_conflicts_count_distinct_dwords_of_a_bank():
    lane = np.arange(32)[None]
    on = np.ones((1, 32), np.bool_)
    for address, size, extra in (
        (lane * 4, 4, 0), (lane * 0, 4, 0), (lane * 8, 4, 1), (lane * 128, 4, 31), (lane * 16, 16, 0),
        (lane * 128, 16, 28), (lane // 2 * 128, 4, 15),
    ):  # fmt: skip
        assert conflicts(address, on, size) == extra
    assert conflicts(lane * 128, on & (lane < 4), 4) == 3
    assert conflicts(lane * 128, on, 4, banks=64) == 15
