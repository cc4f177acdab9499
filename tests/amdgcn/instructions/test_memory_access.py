"""Each load and store that our kernels use: a tensor through buffers and flat addresses, LDS, constants."""

from __future__ import annotations

import re

import numpy as np
import pytest
from amdgcn.assembled import LANES, execute, waves

from forge.amdgcn.state.memory import Memory

pytestmark = pytest.mark.compile

# What each instruction moves: bytes a lane; "s" sign-extends, "lo" and "hi" are the half of the register that is
# loaded or stored; "2x" takes two addresses, offsets in units of the element; "64" in units of 64 of them.
BUFFER = {
    "gfx942": {"load_sbyte": "1s", "load_ubyte": "1", "load_ushort": "2", "load_sshort": "2s", "load_dword": "4",
               "load_dwordx2": "8", "load_dwordx3": "12", "load_dwordx4": "16",
               "store_byte": "1", "store_short": "2", "store_dword": "4", "store_dwordx2": "8", "store_dwordx4": "16"},
    "rdna": {"load_i8": "1s", "load_u8": "1", "load_u16": "2", "load_i16": "2s", "load_b32": "4", "load_b64": "8",
             "load_b128": "16",
             "store_b8": "1", "store_b16": "2", "store_b32": "4", "store_b64": "8", "store_b128": "16"},
}  # fmt: skip
SHARED = {
    "gfx942": {
        "ds_read_u8": "1", "ds_read_u16": "2", "ds_read_i16": "2s", "ds_read_b32": "4", "ds_read_b64": "8",
        "ds_read_b128": "16",
        "ds_read2_b32": "2x4", "ds_read2_b64": "2x8", "ds_read2st64_b32": "2x4 64", "ds_read2st64_b64": "2x8 64",
        "ds_write_b8": "1", "ds_write_b16": "2", "ds_write_b16_d16_hi": "2hi", "ds_write_b32": "4", "ds_write_b64": "8",
        "ds_write_b128": "16", "ds_write2_b32": "2x4", "ds_write2_b64": "2x8", "ds_write2st64_b32": "2x4 64",
        "ds_write2st64_b64": "2x8 64",
    },
    "rdna": {
        "ds_load_u8": "1", "ds_load_u16": "2",
        "ds_load_u8_d16": "1lo", "ds_load_u16_d16": "2lo", "ds_load_u16_d16_hi": "2hi",
        "ds_load_b32": "4",
        "ds_load_b64": "8", "ds_load_b128": "16", "ds_load_2addr_b32": "2x4",
        "ds_load_2addr_b64": "2x8", "ds_load_2addr_stride64_b32": "2x4 64",
        "ds_load_2addr_stride64_b64": "2x8 64", "ds_store_b8": "1", "ds_store_b16": "2", "ds_store_b16_d16_hi": "2hi",
        "ds_store_b32": "4", "ds_store_b64": "8", "ds_store_b128": "16", "ds_store_2addr_b32": "2x4",
        "ds_store_2addr_b64": "2x8", "ds_store_2addr_stride64_b32": "2x4 64", "ds_store_2addr_stride64_b64": "2x8 64",
    },
}  # fmt: skip
SCALAR = {
    "gfx942": {"s_load_dword": 1, "s_load_dwordx2": 2, "s_load_dwordx4": 4, "s_load_dwordx8": 8},
    "rdna": {"s_load_b32": 1, "s_load_b64": 2, "s_load_b128": 4, "s_load_b256": 8},
    "gfx1201": {"s_load_b96": 3},
}
GLOBAL = {
    "gfx942": {"global_load_dword global_store_dword": 4, "global_load_dwordx2 global_store_dwordx2": 8,
               "global_load_dwordx4 global_store_dwordx4": 16},
    "rdna": {"global_load_b32 global_store_b32": 4, "global_load_b64 global_store_b64": 8,
             "global_load_b128 global_store_b128": 16},
}  # fmt: skip
LOADED = {  # of which there is a load alone that is used
    "gfx942": {"global_load_ushort": "2", "global_load_sshort": "2s"},
    "rdna": {"global_load_d16_b16": "2lo"},
}
PRIVATE = {"rdna": {"scratch_load_b32 scratch_store_b32": 4, "scratch_load_b64 scratch_store_b64": 8}}
PARTIAL = 0x0F5A5A5F5A5A5A5B  # lanes that are on
D = 8  # the register that is loaded or stored
EXTENT = 4096


def each(table):
    for arch in LANES:
        for family in ("gfx942" if arch == "gfx942" else "rdna", arch) if arch != "gfx942" else (arch,):
            for name, what in table.get(family, {}).items():
                yield pytest.param(arch, name, what, id=f"{arch}-{name.split()[0]}")


def registers(size: int) -> str:
    return f"v{D}" if size <= 4 else f"v[{D}:{D + size // 4 - 1}]"


def read(octets: np.ndarray, address: np.ndarray, size: int, signed: bool = False) -> list[np.ndarray]:
    """The dwords at byte addresses, one array for each."""
    parts = [octets[address + k].astype(np.uint32) << np.uint32(8 * (k % 4)) for k in range(size)]
    words = [sum(parts[i : i + 4]) for i in range(0, size, 4)]
    sign = np.uint32(1 << 8 * size - 1 if signed else 0)
    return [(w ^ sign) - sign for w in words]


def written(words: list[np.ndarray], size: int) -> np.ndarray:
    """uint8[..., size] of register values."""
    return np.stack([words[k // 4] >> np.uint32(8 * (k % 4)) & np.uint32(0xFF) for k in range(size)], -1).astype(
        np.uint8
    )


def expect_load(before, after, words, active, half: str) -> None:
    for i, word in enumerate(words):
        old = before[D + i]
        if half:
            shift = np.uint32(16 if half == "hi" else 0)
            word = word << shift | old & ~(np.uint32(0xFFFF) << shift)
        np.testing.assert_array_equal(after[D + i], np.where(active, word, old))
    rest = [i for i in range(len(before)) if not D <= i < D + len(words)]
    np.testing.assert_array_equal(after[rest], before[rest])


def tensor(seed: int = 1):
    memory = Memory()
    octets = np.random.default_rng(seed).integers(0, 256, EXTENT, np.uint8)
    return memory, octets, memory.map(octets, "x")


@pytest.mark.parametrize(("arch", "name", "what"), list(each(BUFFER)))
def test_buffer(arch, name, what):
    """Lanes beyond the extent load 0 and store nothing; inactive ones do neither. Offsets add up."""
    size = int(what.rstrip("s"))
    memory, octets, base = tensor()
    state = waves(arch, 2, memory=memory, exec=np.array([PARTIAL, -1], object))
    lanes, rng = state.lanes, np.random.default_rng(2)
    offset = rng.permutation(2 * lanes).reshape(2, lanes) * 16
    soffset = "s3" if "load" in name else "null" if arch == "gfx1201" else "0"
    more = 16 + 4 * (soffset == "s3")
    offset[rng.random((2, lanes)) < 0.2] = 0x80000000
    offset[:, 1] = lanes * 16 + 8 * np.arange(2)  # ends where the buffer of its wave does, or is short of room
    room = np.array([[lanes * 16 + size], [lanes * 16 + 8 + size - (1 if size <= 4 else size)]])
    beyond = offset + size > room
    state.vgpr[1] = offset
    for i, word in enumerate((base & 0xFFFFFFFF, base >> 32, room + more, 0x27000 if arch == "gfx942" else 0x31027000)):
        state.sgpr[8 + i] = word
    state.sgpr[3] = 4
    active, before, memory_before = state.active.copy(), state.vgpr.copy(), octets.copy()
    execute(arch, f"buffer_{name} {registers(size)}, v1, s[8:11], {soffset} offen offset:16", state)
    at = np.where(beyond, 0, offset + more)
    if "load" in name:
        words = [np.where(beyond, np.uint32(0), w) for w in read(memory_before, at, size, "s" in what)]
        expect_load(before, state.vgpr, words, active, "")
        np.testing.assert_array_equal(octets, memory_before)
    else:
        here = active & ~beyond
        memory_before[at[here][:, None] + np.arange(size)] = written(list(before[D : D + 4]), size)[here]
        np.testing.assert_array_equal(octets, memory_before)
        np.testing.assert_array_equal(state.vgpr, before)


@pytest.mark.parametrize("scalar", [False, True], ids=["off", "saddr"])
@pytest.mark.parametrize(("arch", "names", "size"), list(each(GLOBAL)))
def test_global(arch, names, size, scalar):
    """A 64-bit address a lane, or a scalar base and a 32-bit offset a lane."""
    load, store = names.split()
    memory, octets, base = tensor()
    state = waves(arch, 2, memory=memory, exec=np.array([PARTIAL, -1], object))
    offset = np.random.default_rng(4).permutation(2 * state.lanes).reshape(2, -1) * 16
    address = offset.astype(np.uint64) + np.uint64(0 if scalar else base)
    state.vgpr[2], state.vgpr[3] = address.astype(np.uint32), (address >> np.uint64(32)).astype(np.uint32)
    state.sgpr[4], state.sgpr[5] = base & 0xFFFFFFFF, base >> 32
    active, before, octets_before = state.active.copy(), state.vgpr.copy(), octets.copy()
    where = ("v2", "s[4:5]") if scalar else ("v[2:3]", "off")
    data = "v16" if size == 4 else f"v[16:{15 + size // 4}]"
    loads = f"{load} {registers(size)}, {where[0]}, {where[1]} offset:4\n{WAIT[arch]}"
    lines = f"{loads}\n{store} {where[0]}, {data}, {where[1]}"
    execute(arch, lines, state)
    expect_load(before, state.vgpr, read(octets_before, offset + 4, size), active, "")
    octets_before[offset[active][:, None] + np.arange(size)] = written(list(before[16:20]), size)[active]
    np.testing.assert_array_equal(octets, octets_before)


@pytest.mark.parametrize(("arch", "name", "what"), list(each(LOADED)))
def test_global_load(arch, name, what):
    """A 64-bit address a lane."""
    memory, octets, base = tensor()
    state = waves(arch, 2, memory=memory, exec=np.array([PARTIAL, -1], object))
    offset = np.random.default_rng(4).permutation(2 * state.lanes).reshape(2, -1) * 16
    address = offset.astype(np.uint64) + np.uint64(base)
    state.vgpr[2], state.vgpr[3] = address.astype(np.uint32), (address >> np.uint64(32)).astype(np.uint32)
    active, before = state.active.copy(), state.vgpr.copy()
    execute(arch, f"{name} v{D}, v[2:3], off offset:4\n{WAIT[arch]}", state)
    half = "lo" if what.endswith("lo") else ""
    expect_load(before, state.vgpr, read(octets, offset + 4, int(what[0]), what.endswith("s")), active, half)


@pytest.mark.parametrize(("arch", "names", "size"), list(each(PRIVATE)))
def test_scratch(arch, names, size):
    """What a lane stores in its private memory it loads again, and no other lane does."""
    load, store = names.split()
    state = waves(arch, 2, scratch=64, exec=np.array([PARTIAL, -1], object))
    active, before = state.active.copy(), state.vgpr.copy()
    data = "v16" if size == 4 else "v[16:17]"
    wait = "s_wait_storecnt 0x0" if arch == "gfx1201" else "s_waitcnt_vscnt null, 0x0"
    execute(arch, f"{store} off, {data}, off offset:24\n{wait}\n{load} {registers(size)}, off, off offset:24", state)
    expect_load(before, state.vgpr, list(before[16 : 16 + size // 4]), active, "")


WAIT = {"gfx942": "s_waitcnt vmcnt(0)", "gfx1100": "s_waitcnt vmcnt(0)", "gfx1201": "s_wait_loadcnt 0x0"}


@pytest.mark.parametrize(("arch", "name", "what"), list(each(SHARED)))
def test_lds(arch, name, what):
    """Two workgroups have LDS of their own; a store is seen through a load of its bytes."""
    twice, stride = "2x" in what, 64 if "64" in what else 1
    size, half = re.fullmatch(r"(?:2x)?(\d+)(lo|hi|s)?(?: 64)?", what).groups()
    signed, half = half == "s", half if half != "s" else ""
    size, whole = int(size), 16384
    state = waves(arch, 2, lds=whole, groups=2, exec=np.array([PARTIAL, -1], object))
    rng = np.random.default_rng(6)
    content = rng.integers(0, 256, (2, whole), np.uint8)
    every = np.arange(whole, dtype=np.uint32)[None].repeat(2, 0)
    window = state.lds.at(state.group, state.ids)
    window.store(every, None, 1, content[None].astype(np.uint32))
    at = rng.permutation(state.lanes)[None].repeat(2, 0) * 64
    state.vgpr[1] = at
    offsets = [3 * stride * size, 1 * stride * size] if twice else [16]
    active, before = state.active.copy(), state.vgpr.copy()
    load = "read" in name or "load" in name
    tail = " offset0:3 offset1:1" if twice else " offset:16"
    second = f", v[{D + 2}:{D + 3}]" if size == 8 else f", v{D + 2}"
    data = registers(2 * size) if twice and load else registers(size) + (second if twice else "")
    execute(arch, f"{name} {data}, v1{tail}" if load else f"{name} v1, {data}{tail}", state)
    if load:
        words = [w for o in offsets for w in (read(content[g], at[g] + o, size, signed) for g in (0, 1)) for w in [w]]
        words = [np.stack(pair) for o in range(len(offsets)) for pair in zip(*words[2 * o : 2 * o + 2], strict=True)]
        expect_load(before, state.vgpr, words, active, half or "")
    else:
        for k, offset in enumerate(offsets):
            source = [before[D + 2 * k + i] >> np.uint32(16 if half == "hi" else 0) for i in range(max(1, size // 4))]
            value = written(source, size)
            for g in (0, 1):
                content[g, (at[g] + offset)[active[g]][:, None] + np.arange(size)] = value[g][active[g]]
        np.testing.assert_array_equal(state.vgpr, before)
    np.testing.assert_array_equal(window.load(every, None, 1)[0], content)


@pytest.mark.parametrize(("arch", "name", "count"), list(each(SCALAR)))
def test_scalar_load(arch, name, count):
    """Dwords from a scalar address, whatever EXEC is."""
    memory, octets, base = tensor()
    state = waves(arch, 2, memory=memory, exec=0)
    starts = np.array([[64], [1024]])
    address = starts.astype(np.uint64) + np.uint64(base)
    state.sgpr[4], state.sgpr[5] = address.astype(np.uint32), (address >> np.uint64(32)).astype(np.uint32)
    before = state.sgpr.copy()
    data = "s16" if count == 1 else f"s[16:{15 + count}]"
    execute(arch, f"{name} {data}, s[4:5], 0x28", state)
    want = before.copy()
    for i, word in enumerate(read(octets, starts + 0x28, 4 * count)):
        want[16 + i] = word
    np.testing.assert_array_equal(state.sgpr, want)


def covered() -> set[tuple[str, str]]:
    """(architecture, mnemonic) of everything above."""
    found = {(p.values[0], f"buffer_{p.values[1]}") for p in each(BUFFER)}
    found |= {(p.values[0], p.values[1]) for table in (SHARED, SCALAR, LOADED) for p in each(table)}
    return found | {(p.values[0], n) for table in (GLOBAL, PRIVATE) for p in each(table) for n in p.values[1].split()}
