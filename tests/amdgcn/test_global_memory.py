"""Global, buffer, scratch and scalar memory: every width against bytes sliced in plain Python, and what must trap."""

from __future__ import annotations

import importlib
import re

import numpy as np
import pytest
from amdgcn.accessed import mapped, put_address, put_resource, put_scalar, run, state

from forge.amdgcn.code.instruction import Instruction, Operand
from forge.amdgcn.instructions.access import UNSUPPORTED, bind
from forge.amdgcn.state.memory import Memory, Scratch
from forge.amdgcn.trap import MISALIGNED, OUT_OF_BOUNDS, UNINITIALIZED, UNKNOWN, Fault

pytestmark = pytest.mark.compile

ARCHS = ("gfx90a", "gfx942", "gfx1100", "gfx1201")
# (CDNA's word, RDNA's word, bytes, signed, half of the register: 0 all, 1 low, 2 high)
LOADS = [
    ("ubyte", "u8", 1, False, 0), ("sbyte", "i8", 1, True, 0), ("ushort", "u16", 2, False, 0),
    ("sshort", "i16", 2, True, 0), ("dword", "b32", 4, False, 0), ("dwordx2", "b64", 8, False, 0),
    ("dwordx3", "b96", 12, False, 0), ("dwordx4", "b128", 16, False, 0), ("ubyte_d16", "d16_u8", 1, False, 1),
    ("ubyte_d16_hi", "d16_hi_u8", 1, False, 2), ("sbyte_d16", "d16_i8", 1, True, 1),
    ("sbyte_d16_hi", "d16_hi_i8", 1, True, 2), ("short_d16", "d16_b16", 2, False, 1),
    ("short_d16_hi", "d16_hi_b16", 2, False, 2),
]  # fmt: skip
STORES = [
    ("byte", "b8", 1, 0), ("short", "b16", 2, 0), ("dword", "b32", 4, 0), ("dwordx2", "b64", 8, 0),
    ("dwordx3", "b96", 12, 0), ("dwordx4", "b128", 16, 0), ("byte_d16_hi", "d16_hi_b8", 1, 2),
    ("short_d16_hi", "d16_hi_b16", 2, 2),
]  # fmt: skip
SIZE = 16384


def span(first, size):
    count = max(1, size // 4)
    return f"v{first}" if count == 1 else f"v[{first}:{first + count - 1}]"


def scattered(w, size, limit, seed=5):
    """A distinct offset a lane, aligned as `size` needs and no further."""
    align = min(size & -size, 4)
    slot = -(-size // align) * align
    places = np.random.default_rng(seed).permutation((limit - 32) // slot)[: w.n * w.lanes]
    return places.reshape(w.n, w.lanes) * slot


def form(space, arch, what, word, size):
    """The line of one access between memory and v[8..], whose addresses `placed` sets up."""
    name, reg, none = f"{space.split('-')[0]}_{what}_{word}", span(8, size), "null" if arch == "gfx1201" else "0"
    lines = {
        "global": (f"{reg}, v[2:3], off offset:-16", f"v[2:3], {reg}, off offset:-16"),
        "global-scalar": (f"{reg}, v2, s[4:5] offset:16", f"v2, {reg}, s[4:5] offset:16"),
        "flat": (f"{reg}, v[2:3]", f"v[2:3], {reg}"),
        "buffer": (f"{reg}, v2, s[4:7], {none} offen offset:16",) * 2,
        "buffer-scalar": (f"{reg}, v2, s[4:7], s9 offen",) * 2,
        "scratch": (f"{reg}, v2, off offset:16", f"v2, {reg}, off offset:16"),
    }
    return f"{name} {lines[space][what == 'store']}"


def placed(space, arch, w, memory_address, size):
    """Set the address registers; the byte each lane means, from the start of its tensor or scratch."""
    limit = w.scratch.size if space == "scratch" else SIZE
    offset = scattered(w, size, limit) if space != "scratch" else np.full((w.n, w.lanes), 16)
    at = offset + 16
    if space in ("global", "flat"):
        put_address(w, 2, memory_address + at + (16 if space == "global" else 0))
    else:
        w.vgpr[2] = offset
    put_scalar(w, 4, memory_address, memory_address >> 32)
    if space.startswith("buffer"):
        put_resource(w, arch, 4, memory_address, 0x7FFFFFFE)
        put_scalar(w, 9, 16)
    return at


SPACES = ("global", "global-scalar", "flat", "buffer", "buffer-scalar", "scratch")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("space", SPACES)
def test_loads_give_the_bytes_at_their_address(arch, space):
    for cdna, rdna, size, signed, half in LOADS:
        memory, tensor, base = mapped(SIZE)
        w = state(arch, memory=memory, scratch=64)
        at = placed(space, arch, w, base, size)
        source = np.broadcast_to(tensor, (w.n, w.lanes, SIZE))
        if space == "scratch":
            source = w.scratch.cells.octets.reshape(w.n, w.lanes, 64)
            source[:] = np.random.default_rng(1).integers(0, 256, source.shape)
            w.scratch.cells.flags.octets[:] = 1
        before = w.vgpr.copy()
        run(arch, form(space, arch, "load", cdna if arch[3] == "9" else rdna, size), w)
        want = before.copy()
        for i, lane in zip(*np.nonzero(w.active), strict=True):
            got = source[i, lane, at[i, lane] : at[i, lane] + size].tobytes()
            number = int.from_bytes(got, "little", signed=signed)
            old = int(before[8, i, lane])
            if half:
                number = number & 0xFFFF | old & 0xFFFF0000 if half == 1 else (number & 0xFFFF) << 16 | old & 0xFFFF
            for word in range(max(1, size // 4)):
                want[8 + word, i, lane] = number >> 32 * word & 0xFFFFFFFF
        np.testing.assert_array_equal(w.vgpr, want, err_msg=f"{arch} {space} {cdna}")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("space", SPACES)
def test_stores_change_those_bytes_and_no_others(arch, space):
    for cdna, rdna, size, half in STORES:
        memory, tensor, base = mapped(SIZE)
        w = state(arch, memory=memory, scratch=64)
        at = placed(space, arch, w, base, size)
        tensors = {False: tensor[None, None], True: w.scratch.cells.octets.reshape(w.n, w.lanes, 64)}
        held = tensors[space == "scratch"]
        want = held.copy()
        for i, lane in zip(*np.nonzero(w.active), strict=True):
            data = b"".join(int(w.vgpr[8 + k, i, lane]).to_bytes(4, "little") for k in range(max(1, size // 4)))
            row = want[i, lane] if space == "scratch" else want[0, 0]
            row[at[i, lane] : at[i, lane] + size] = list(data[half : half + size])
        run(arch, form(space, arch, "store", cdna if arch[3] == "9" else rdna, size), w)
        np.testing.assert_array_equal(held, want, err_msg=f"{arch} {space} {cdna}")


def test_a_32_bit_offset_to_a_scalar_base_is_unsigned():
    memory, tensor, base = mapped(64)
    w = state("gfx1201", memory=memory)
    put_scalar(w, 4, base - 0x90000000, base - 0x90000000 >> 32)
    w.vgpr[2] = 0x90000008
    run("gfx1201", "global_load_b32 v8, v2, s[4:5] offset:-4", w)
    assert (w.vgpr[8][w.active] == tensor[4:8].view(np.uint32)[0]).all()


def test_the_last_lane_s_store_to_one_address_stays():
    memory, tensor, base = mapped(64)
    w = state("gfx1100", memory=memory)
    put_address(w, 2, base + 8)
    run("gfx1100", "global_store_b32 v[2:3], v8, off", w)
    assert tensor[8:12].view(np.uint32)[0] == w.vgpr[8][w.active][-1]


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "gfx1201"])
@pytest.mark.parametrize("records", [0, 4, 15, 16, 17, 19, 20, 24, 31])
def test_a_raw_buffer_s_dwords_beyond_its_records_are_zero_and_are_not_stored(arch, records):
    word, store = ("load_dwordx4", "store_dwordx4") if arch == "gfx942" else ("load_b128", "store_b128")
    memory, tensor, base = mapped(256)
    held = tensor.copy()
    w = state(arch, memory=memory, full=True)
    put_resource(w, arch, 4, base, records)
    put_scalar(w, 9, 4)
    w.vgpr[2] = np.arange(w.n * w.lanes).reshape(w.n, w.lanes) % 3 * 16
    w.vgpr[2, :, 7], w.vgpr[2, :, 8] = 0x80000000, 0xFFFFFFFC  # masked off, and an offset that must not wrap
    run(arch, f"buffer_{word} v[8:11], v2, s[4:7], s9 offen offset:4", w)
    run(arch, f"buffer_{store} v[16:19], v2, s[4:7], s9 offen offset:4", w)
    after = held.copy()
    for i in range(w.n):
        for lane in range(w.lanes):
            for k in range(4):
                at = int(w.vgpr[2, i, lane]) + 8 + 4 * k
                inside = at + 4 <= records
                assert w.vgpr[8 + k, i, lane] == (held[at : at + 4].view(np.uint32)[0] if inside else 0)
                if inside:
                    after[at : at + 4] = w.vgpr[16 + k, i, lane : lane + 1].view(np.uint8)
    np.testing.assert_array_equal(tensor, after)


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100", "gfx1201"])
def test_an_offset_masked_as_triton_does_gives_zero_without_a_trap(arch):
    memory, tensor, base = mapped(256)
    w = state(arch, memory=memory)
    put_resource(w, arch, 4, base, 0x7FFFFFFE)
    w.vgpr[2] = np.where(np.arange(w.lanes) % 2, 0x80000000, 64)
    word, none = ("dwordx2", "0") if arch == "gfx942" else ("b64", "null" if arch == "gfx1201" else "0")
    before = w.vgpr[8:10].copy()
    run(arch, f"buffer_load_{word} v[8:9], v2, s[4:7], {none} offen", w)
    want = np.where(np.arange(w.lanes) % 2, 0, tensor[64:72].view(np.uint32)[:, None, None])
    np.testing.assert_array_equal(w.vgpr[8:10], np.where(w.active, want, before))


@pytest.mark.parametrize("arch", ["gfx942", "gfx1100"])
def test_structured_and_swizzled_buffers_follow_the_address_formula(arch):
    word = "dwordx2" if arch == "gfx942" else "b64"
    memory, tensor, base = mapped(SIZE)
    w = state(arch, memory=memory, full=True)
    w.vgpr[2] = np.arange(w.lanes) % 20
    w.vgpr[3] = np.arange(w.lanes) % 3 * 4
    swizzled_bit = 1 << 15 if arch == "gfx942" else 1 << 14
    for swizzle in (0, swizzled_bit):
        flags = 0x27000 | 1 << 21 if arch == "gfx942" else 1 << 21 | 1 << 28  # index stride 16; checked by the index
        put_resource(w, arch, 4, base, 17, stride=32 | swizzle, flags=flags)
        run(arch, f"buffer_load_{word} v[8:9], v[2:3], s[4:7], 0 idxen offen offset:4", w)
        for lane in range(w.lanes):
            index, offset = int(w.vgpr[2, 0, lane]), int(w.vgpr[3, 0, lane]) + 4
            for k in range(2):
                at = offset + 4 * k
                place = (index // 16 * 32 + at // 4 * 4) * 16 + index % 16 * 4 + at % 4 if swizzle else index * 32 + at
                want = tensor[place : place + 4].view(np.uint32)[0] if index < 17 else 0
                assert w.vgpr[8 + k, 1, lane] == want
        run(arch, f"buffer_load_{'ubyte' if arch == 'gfx942' else 'u8'} v8, v[2:3], s[4:7], 0 idxen offen offset:7", w)
        for lane in range(w.lanes):
            index, at = int(w.vgpr[2, 0, lane]), int(w.vgpr[3, 0, lane]) + 7
            place = (index // 16 * 32 + at // 4 * 4) * 16 + index % 16 * 4 + at % 4 if swizzle else index * 32 + at
            assert w.vgpr[8, 1, lane] == (tensor[place] if index < 17 else 0)


def test_gfx90a_spills_to_scratch_by_its_buffer_resource():
    w = state("gfx90a", scratch=64)
    put_scalar(w, 0, *Scratch.RESOURCE)
    kept = w.vgpr[8:12].copy()
    run("gfx90a", "buffer_store_dwordx4 v[8:11], off, s[0:3], 0 offset:4", w)
    run("gfx90a", "buffer_load_dword v1, off, s[0:3], 0 offset:16", w)
    np.testing.assert_array_equal(w.vgpr[1][w.active], kept[3][w.active])
    w.active = ~w.active  # lanes that stored nothing
    with pytest.raises(Fault) as caught:
        run("gfx90a", "buffer_load_dword v1, off, s[0:3], 0 offset:16", w)
    assert caught.value.kind == UNINITIALIZED


def test_scalar_loads_take_registers_and_offsets():
    for arch, word, octuple in (
        ("gfx942", "dwordx4", "dwordx8"),
        ("gfx1100", "b128", "b256"),
        ("gfx1201", "b128", "b256"),
    ):
        memory, tensor, base = mapped(512)
        w = state(arch, memory=memory)
        words = tensor.view(np.uint32)
        put_scalar(w, 4, base, base >> 32)
        w.sgpr[6] = np.arange(w.n, dtype=np.uint32)[:, None] * 64  # each wave its own
        soffset = "s6" if arch == "gfx942" else "s6 offset:0"
        for line, first in (
            (f"s_load_{word} s[8:11], s[4:5], {soffset}", 0),
            (f"s_load_{octuple} s[8:15], s[4:5], 0x20", None),
        ):
            run(arch, line, w)
            for i in range(w.n):
                at = 8 if first is None else i * 16
                count = 8 if first is None else 4
                np.testing.assert_array_equal(w.sgpr[8 : 8 + count, i, 0], words[at : at + count])
        put_resource(w, arch, 20, base, 24)
        run(arch, f"s_buffer_load_{word} s[8:11], s[20:23], 0x10", w)
        np.testing.assert_array_equal(w.sgpr[8:12, 0, 0], [*words[4:6], 0, 0])
    run("gfx1201", "s_load_i16 s8, s[4:5], 0x6", w)
    assert w.sgpr[8, 0, 0] == tensor[6:8].view(np.int16).astype(np.uint32)[0]


def test_a_direct_load_lands_in_lds_by_lane_and_m0():
    for arch, word, size in (("gfx942", "dword", 4), ("gfx950", "dwordx4", 16), ("gfx942", "sbyte", 1)):
        memory, tensor, base = mapped(SIZE)
        w = state(arch, memory=memory, lds=8192)
        w.group = np.zeros(w.n, np.int64)
        w.vgpr[2] = scattered(w, size, SIZE)
        w.vgpr[2, 0, 0] = 0x80000000
        w.sgpr[124] = np.arange(w.n, dtype=np.uint32)[:, None] * 2048 + 64
        put_resource(w, arch, 4, base, 0x7FFFFFFE)
        run(arch, f"buffer_load_{word} v2, s[4:7], 0 offen offset:8 lds", w)
        step = max(4, size)
        for i, lane in zip(*np.nonzero(w.active), strict=True):
            at = int(w.vgpr[2, i, lane]) + 8
            want = tensor[at : at + size] if at < SIZE else np.zeros(size, np.uint8)
            want = want if size > 1 else want.view(np.int8).astype(np.int32).view(np.uint8)
            place = i * 2048 + 64 + 8 + lane * step
            np.testing.assert_array_equal(w.lds.cells.octets[place : place + step], want)


def test_an_access_outside_the_tensors_names_the_nearest_the_wave_and_the_lane():
    memory, _, base = mapped(256)
    w = state("gfx1100", memory=memory)
    put_address(w, 2, base + 16)
    for outside, told in (
        (base + 256, "0 bytes after x"),
        (base - 8, "8 bytes before x"),
        (base + 252, "across the end of x"),
    ):
        w.vgpr[2, 1, 9], w.vgpr[3, 1, 9] = outside & 0xFFFFFFFF, outside >> 32
        w.active[:2] = False  # so that it is the first active lane too
        w.active[1, 9] = True
        for line in ("global_load_b64 v[8:9], v[2:3], off", "global_store_b64 v[2:3], v[8:9], off"):
            with pytest.raises(Fault, match=told) as caught:
                run("gfx1100", line, w)
            assert (caught.value.kind, caught.value.wave, caught.value.lane) == (OUT_OF_BOUNDS, 1, 9)
    w.exec_changed()
    put_address(w, 2, base + 16)
    w.vgpr[2, 1, 1] = 0  # an inactive lane's address does not matter
    run("gfx1100", "global_load_b64 v[8:9], v[2:3], off", w)
    w = state("gfx1100", memory=memory)
    put_resource(w, "gfx1100", 4, base, 0x7FFFFFFE)
    w.vgpr[2] = 16
    w.vgpr[2, 2, 31] = 256
    with pytest.raises(Fault, match="after x") as caught:
        run("gfx1100", "buffer_load_b32 v8, v2, s[4:7], 0 offen", w)
    assert (caught.value.kind, caught.value.wave, caught.value.lane) == (OUT_OF_BOUNDS, 2, 31)


@pytest.mark.parametrize(("size", "word", "off"), [(2, "u16", 1), (4, "b32", 2), (8, "b64", 2), (16, "b128", 1)])
def test_a_misaligned_address_traps_and_a_dword_s_alignment_is_enough(size, word, off):
    memory, _, base = mapped(256)
    w = state("gfx1100", memory=memory)
    put_address(w, 2, base + min(size, 4))
    run("gfx1100", f"global_load_{word} {span(8, size)}, v[2:3], off", w)
    w.vgpr[2, 2, 31] += off
    with pytest.raises(Fault) as caught:
        run("gfx1100", f"global_load_{word} {span(8, size)}, v[2:3], off", w)
    assert (caught.value.kind, caught.value.wave, caught.value.lane) == (MISALIGNED, 2, 31)


def test_scratch_is_bounded_and_private():
    w = state("gfx1100", scratch=16)
    w.vgpr[2] = 12
    with pytest.raises(Fault) as caught:
        run("gfx1100", "scratch_load_b32 v8, v2, off", w)
    assert caught.value.kind == UNINITIALIZED
    run("gfx1100", "scratch_store_b32 v2, v8, off", w)
    with pytest.raises(Fault) as caught:
        run("gfx1100", "scratch_store_b32 v2, v8, off offset:4", w)
    assert caught.value.kind == OUT_OF_BOUNDS
    put_scalar(w, 5, 8)
    run("gfx1100", "scratch_load_b32 v9, off, s5 offset:4", w)
    np.testing.assert_array_equal(w.vgpr[9][w.active], w.vgpr[8][w.active])


def test_tensors_are_mapped_where_they_lie():
    memory = Memory()
    room = np.arange(64, dtype=np.uint32)
    memory.map(room[40:], "far")
    low = memory.map(room[:16], "low")
    lanes = low + np.array([[0, 160, 252]], np.uint64)
    np.testing.assert_array_equal(memory.load(lanes, None, 4), [[[0, 40, 63]]])  # lanes in two tensors
    with pytest.raises(Fault, match="0 bytes after low"):
        memory.load(lanes + np.uint64(64), np.array([[True, False, False]]), 4)
    memory.store(lanes, None, 4, np.array([[[7, 8, 9]]], np.uint32))
    assert room[[0, 40, 63]].tolist() == [7, 8, 9]
    with pytest.raises(Fault, match="across the end of low"):
        memory.load(np.array([[low + 60]], np.uint64), None, 8)
    memory.map(room[8:20], "overlapping")
    assert memory.load(np.array([[low + 60]], np.uint64), None, 8).ravel().tolist() == [15, 16]
    fixed = room[20:30]
    fixed.flags.writeable = False
    place = np.array([[memory.map(fixed, "weights")]], np.uint64)
    assert memory.load(place, None, 4).item() == 20
    with pytest.raises(Fault, match="only to be read"):
        memory.store(place, None, 4, np.zeros((1, 1, 1), np.uint32))
    one, two = room[30:32], room[32:34]  # side by side, yet no access may run from one into the other
    start = memory.map(one, "one")
    memory.map(two, "two")
    with pytest.raises(Fault, match="across the end of one"):
        memory.load(np.array([[start + 4]], np.uint64), None, 8)
    strided = memory.map(room[::-2], "backwards")
    assert memory.load(np.array([[strided]], np.uint64), None, 4).item() == 9


def test_cache_control_does_nothing_and_what_is_missing_says_so():
    w = state("gfx1100")
    before = w.vgpr.copy()
    run("gfx1100", "buffer_gl0_inv\nbuffer_gl1_inv\ns_dcache_inv\ns_gl1_inv", w)
    run("gfx942", "buffer_inv sc1\nbuffer_wbl2 sc1\ns_dcache_wb", state("gfx942"))
    run(
        "gfx1201",
        "global_inv scope:SCOPE_SYS\nglobal_wb scope:SCOPE_SYS\nglobal_wbinv scope:SCOPE_SYS",
        state("gfx1201"),
    )
    np.testing.assert_array_equal(w.vgpr, before)
    for line in ("ds_append v1 offset:4", "buffer_load_format_x v1, v2, s[4:7], 0 offen", "ds_add_u32 v1, v2 gds"):
        with pytest.raises(Fault, match="not modelled") as caught:
            run("gfx1100", line, w)
        assert caught.value.kind == UNKNOWN


@pytest.mark.parametrize(("family", "arch"), [("cdna", "gfx950"), ("rdna3", "gfx1100"), ("rdna4", "gfx1201")])
def test_every_memory_instruction_of_the_tables_is_bound_or_listed_as_missing(family, arch):
    tables = vars(importlib.import_module(f"tinygrad.runtime.autogen.amd.{family}.enum")).values()
    names = {name.lower() for table in tables if hasattr(table, "__members__") for name in table.__members__}
    prefix = re.compile(
        r"(global|flat|scratch|buffer|tbuffer|image|ds)_|s_(buffer_|scratch_)?(load|store|atomic|dcache)_"
    )
    roles = ("ADDR", "DATA", "DATA2", "D0", "SADDR", "SBASE", "SRSRC", "SOFFSET")
    operands = {role: Operand(role, "s" if role[0] == "S" else "v", 4, 4, 32, "b32") for role in roles}
    found = [name for name in names if prefix.match(name)]
    assert len(found) > 300
    for name in found:
        instruction = Instruction(0, 8, name, "", operands, {"offset": 0, "offset0": 0, "offset1": 0})
        if any(re.fullmatch(pattern, name) for pattern in UNSUPPORTED):
            with pytest.raises(Fault, match="not"):
                bind(instruction, arch)
        else:
            assert bind(instruction, arch) is not None, name
