"""Atomics against a plain loop over waves and lanes, with addresses that lanes share."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from amdgcn.accessed import mapped, put_address, put_resource, run, state

from forge.amdgcn.trap import MISALIGNED, OUT_OF_BOUNDS, Fault

pytestmark = pytest.mark.compile

FORMATS = {("u", 4): "<I", ("i", 4): "<i", ("u", 8): "<Q", ("i", 8): "<q", ("f", 4): "<f", ("f", 8): "<d"}


def number(bits, kind, size):
    return struct.unpack(FORMATS[kind, size], int(bits).to_bytes(size, "little"))[0]


def bits_of(value, kind, size):
    if kind == "f":
        return int.from_bytes((np.float32 if size == 4 else np.float64)(value).tobytes(), "little")
    return int(value) & (1 << 8 * size) - 1


def half_sum(old, value, brain):
    """Both halves' sums, rounded to nearest even from float64 (of bf16 by the bits of exact fractions)."""
    out = 0
    for shift in (0, 16):
        a, b = old >> shift & 0xFFFF, value >> shift & 0xFFFF
        if brain:
            pair = torch.tensor([a, b], dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
            total = pair[0].double() + pair[1].double()
            out |= int(total.to(torch.bfloat16).view(torch.uint16).item()) << shift
        else:
            pair = np.array([a, b], np.uint16).view(np.float16)
            out |= int((pair[0] + pair[1]).view(np.uint16)) << shift
    return out


def applied(operation, kind, size, old, value, other):
    """The new bits by the pseudocode's words; `old`, `value` and `other` are bits."""
    o, v, c = (number(b, kind, size) for b in (old, value, other))
    if operation in ("and", "or", "xor"):
        return {"and": old & value, "or": old | value, "xor": old ^ value}[operation]
    if operation.startswith("pk_add"):
        return half_sum(old, value, "bf16" in operation)
    if operation == "add" and kind == "f":
        kind_of = np.float32 if size == 4 else np.float64
        return bits_of(kind_of(o) + kind_of(v), kind, size)
    result = {
        "add": lambda: o + v, "sub": lambda: o - v, "rsub": lambda: v - o, "swap": lambda: v,
        "min": lambda: v if v < o else o, "max": lambda: v if v > o else o,
        "inc": lambda: 0 if o >= v else o + 1, "dec": lambda: v if o == 0 or o > v else o - 1,
        "cmpswap": lambda: v if o == c else o, "sub_clamp": lambda: 0 if o < v else o - v,
        "cond_sub": lambda: o - v if o >= v else o, "mskor": lambda: o & ~v | c,
    }[operation]()  # fmt: skip
    return bits_of(result, kind, size)


GLOBAL = {
    "gfx942": [
        *((f"{name}{x}", operation, kind, size) for x, size in (("", 4), ("_x2", 8)) for name, operation, kind in (
            ("add", "add", "u"), ("sub", "sub", "u"), ("smin", "min", "i"), ("umin", "min", "u"), ("smax", "max", "i"),
            ("umax", "max", "u"), ("and", "and", "u"), ("or", "or", "u"), ("xor", "xor", "u"), ("inc", "inc", "u"),
            ("dec", "dec", "u"), ("swap", "swap", "u"), ("cmpswap", "cmpswap", "u"),
        )),
        ("add_f32", "add", "f", 4), ("add_f64", "add", "f", 8), ("min_f64", "min", "f", 8), ("max_f64", "max", "f", 8),
        ("pk_add_f16", "pk_add_f16", "u", 4), ("pk_add_bf16", "pk_add_bf16", "u", 4),
    ],
    "gfx1100": [
        *((f"{name}{size * 8}", operation, kind, size) for size in (4, 8) for name, operation, kind in (
            ("add_u", "add", "u"), ("sub_u", "sub", "u"), ("min_i", "min", "i"), ("min_u", "min", "u"),
            ("max_i", "max", "i"), ("max_u", "max", "u"), ("and_b", "and", "u"), ("or_b", "or", "u"),
            ("xor_b", "xor", "u"), ("inc_u", "inc", "u"), ("dec_u", "dec", "u"), ("swap_b", "swap", "u"),
            ("cmpswap_b", "cmpswap", "u"),
        )),
        ("add_f32", "add", "f", 4), ("min_f32", "min", "f", 4), ("max_f32", "max", "f", 4),
        ("csub_u32", "sub_clamp", "u", 4),
    ],
    "gfx1201": [
        ("add_u32", "add", "u", 4), ("sub_clamp_u32", "sub_clamp", "u", 4), ("cond_sub_u32", "cond_sub", "u", 4),
        ("min_num_f32", "min", "f", 4), ("max_num_f32", "max", "f", 4), ("pk_add_f16", "pk_add_f16", "u", 4),
        ("pk_add_bf16", "pk_add_bf16", "u", 4), ("cmpswap_b64", "cmpswap", "u", 8), ("add_f32", "add", "f", 4),
    ],
}  # fmt: skip
CASES = [(arch, *case) for arch, cases in GLOBAL.items() for case in cases]


def span(first, dwords):
    return f"v{first}" if dwords == 1 else f"v[{first}:{first + dwords - 1}]"


def wide(w, first, i, lane, size):
    return sum(int(w.vgpr[first + k, i, lane]) << 32 * k for k in range(size // 4))


def few(w, kind, size, seed=1):
    """Small operands in v4.. that often meet: value in v4, what cmpswap compares with behind it."""
    rng = np.random.default_rng(seed)
    if kind == "f":
        values = rng.normal(size=(2, w.n, w.lanes)).astype(f"f{size}")
    else:
        values = rng.integers(0, 4, (2, w.n, w.lanes)).astype(f"u{size}")
    flat = np.ascontiguousarray(values)[..., None].view(np.uint32)
    for operand in range(2):
        for k in range(size // 4):
            w.vgpr[4 + operand * (size // 4) + k] = flat[operand, ..., k]


def loop(w, held, slots, operation, kind, size, dropped=()):
    """The lane-after-lane result: (bytes after, old values by (wave, lane))."""
    after, old = held.copy(), {}
    for i, lane in zip(*np.nonzero(w.active), strict=True):
        if (i, lane) in dropped:
            continue
        at = int(slots[i, lane]) * size
        before = int.from_bytes(after[at : at + size].tobytes(), "little")
        value, other = wide(w, 4, i, lane, size), wide(w, 4 + size // 4, i, lane, size)
        new = applied(operation, kind, size, before, value, other)
        after[at : at + size] = list(new.to_bytes(size, "little"))
        old[i, lane] = before
    return after, old


def starting(tensor, operation, kind, size):
    count = len(tensor) // size
    rng = np.random.default_rng(9)
    if operation.startswith("pk_add"):
        start = np.array([0x3C003F80, 0x41003E00], np.uint32)[rng.integers(0, 2, count)]
    else:
        start = rng.normal(size=count) if kind == "f" else rng.integers(0, 5, count)
        start = start.astype(f"{'f' if kind == 'f' else 'u'}{size}")
    tensor[: count * size] = start.view(np.uint8)


@pytest.mark.parametrize(("arch", "word", "operation", "kind", "size"), CASES)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("returned", [True, False])
def test_global_atomics_follow_the_lanes_in_order(arch, word, operation, kind, size, shared, returned):
    returned = returned or word == "csub_u32"  # which always does
    memory, tensor, base = mapped(2048)
    w = state(arch, memory=memory)
    starting(tensor, operation, kind, size)
    few(w, kind, size)
    if operation.startswith("pk_add"):
        w.vgpr[4] = np.array([0x3C003F80, 0xC1004200, 0x34003B00], np.uint32)[np.arange(w.lanes) % 3]
    slots = np.random.default_rng(3).permutation(w.n * w.lanes).reshape(w.n, w.lanes) % (7 if shared else 256)
    after, old = loop(w, tensor, slots, operation, kind, size)
    put_address(w, 2, base + slots.astype(np.int64) * size)
    data = span(4, size // 4 * (2 if "cmpswap" in word else 1))
    give = {"gfx942": " sc0", "gfx1100": " glc", "gfx1201": " th:TH_ATOMIC_RETURN"}[arch] if returned else ""
    result = f"{span(12, size // 4)}, " if returned else ""
    before = w.vgpr.copy()
    run(arch, f"global_atomic_{word} {result}v[2:3], {data}, off{give}", w)
    np.testing.assert_array_equal(tensor, after)
    if returned:
        for (i, lane), value in old.items():
            assert wide(w, 12, i, lane, size) == value
    changed = (w.vgpr != before).any(0)
    assert not changed[~w.active].any() and (returned or not changed.any())


LOCAL = [
    ("gfx942", "add_rtn_u32", "add", "u", 4), ("gfx942", "add_u64", "add", "u", 8),
    ("gfx942", "max_rtn_i32", "max", "i", 4),
    ("gfx942", "rsub_rtn_u32", "rsub", "u", 4), ("gfx942", "cmpst_rtn_b32", "cmpst", "u", 4),
    ("gfx942", "cmpst_b64", "cmpst", "u", 8), ("gfx942", "wrxchg_rtn_b64", "swap", "u", 8),
    ("gfx942", "mskor_rtn_b32", "mskor", "u", 4), ("gfx942", "add_rtn_f64", "add", "f", 8),
    ("gfx942", "pk_add_rtn_bf16", "pk_add_bf16", "u", 4), ("gfx1100", "cmpstore_rtn_b32", "cmpswap", "u", 4),
    ("gfx1100", "storexchg_rtn_b32", "swap", "u", 4), ("gfx1100", "add_rtn_f32", "add", "f", 4),
    ("gfx1100", "min_rtn_f32", "min", "f", 4), ("gfx1100", "inc_rtn_u32", "inc", "u", 4),
    ("gfx1201", "max_num_rtn_f32", "max", "f", 4), ("gfx1201", "cond_sub_rtn_u32", "cond_sub", "u", 4),
    ("gfx1201", "dec_rtn_u64", "dec", "u", 8), ("gfx1201", "xor_b32", "xor", "u", 4),
]  # fmt: skip


@pytest.mark.parametrize(("arch", "word", "operation", "kind", "size"), LOCAL)
def test_lds_atomics_follow_the_lanes_in_order(arch, word, operation, kind, size):
    w = state(arch, lds=256)
    held = w.lds.cells.octets
    starting(held, operation, kind, size)
    w.lds.cells.flags.octets[:] = 1
    few(w, kind, size)
    slots = np.random.default_rng(3).integers(0, 7, (w.n, w.lanes))
    w.vgpr[1] = slots * size
    if operation == "cmpst":  # the older spelling: the comparison is the first operand
        swapped = w.vgpr[4 : 4 + 2 * size // 4].copy()
        w.vgpr[4 : 4 + size // 4], w.vgpr[4 + size // 4 : 4 + 2 * size // 4] = (
            swapped[size // 4 :],
            swapped[: size // 4],
        )
        after, old = loop(w, held, slots, "cmpswap", kind, size)
        w.vgpr[4 : 4 + 2 * size // 4] = swapped
    else:
        after, old = loop(w, held, slots, operation, kind, size)
    operands = [span(4, size // 4)]
    if operation in ("cmpst", "cmpswap", "mskor"):
        operands.append(span(4 + size // 4, size // 4))
    result = [span(12, size // 4)] if "_rtn" in word else []
    run(arch, f"ds_{word} {', '.join([*result, 'v1', *operands])}", w)
    np.testing.assert_array_equal(held, after)
    if result:
        for (i, lane), value in old.items():
            assert wide(w, 12, i, lane, size) == value


def test_a_buffer_s_atomics_out_of_range_do_nothing_and_return_zero():
    memory, tensor, base = mapped(256)
    w = state("gfx942", memory=memory)
    few(w, "u", 4)
    slots = np.arange(w.n * w.lanes).reshape(w.n, w.lanes) % 20
    out = {(i, lane) for i, lane in zip(*np.nonzero(slots >= 16), strict=True)}
    after, old = loop(w, tensor, slots, "add", "u", 4, dropped=out)
    put_resource(w, "gfx942", 20, base, 64)
    w.vgpr[2] = slots * 4
    run("gfx942", "buffer_atomic_add v4, v2, s[20:23], 0 offen sc0", w)
    np.testing.assert_array_equal(tensor, after)
    for i, lane in zip(*np.nonzero(w.active), strict=True):
        assert w.vgpr[4, i, lane] == old.get((i, lane), 0)


def test_minimum_of_numbers_ignores_nan_and_orders_zeros_where_the_older_one_compares():
    nan, minus, one = 0x7FC00000, 0x80000000, 0x3F800000
    for arch, word, old, value, want in (
        ("gfx1201", "min_num_f32", nan, one, one), ("gfx1201", "min_num_f32", one, nan, one),
        ("gfx1201", "min_num_f32", 0, minus, minus), ("gfx1201", "max_num_f32", minus, 0, 0),
        ("gfx1201", "max_num_f32", 0, minus, 0), ("gfx1201", "min_num_f32", minus, 0, minus),
        ("gfx1100", "min_f32", nan, one, nan), ("gfx1100", "min_f32", one, nan, one),
        ("gfx1100", "min_f32", 0, minus, 0),
    ):  # fmt: skip
        memory, tensor, base = mapped(4)
        tensor[:] = np.array([old], np.uint32).view(np.uint8)
        w = state(arch, n=1, memory=memory)
        w.active[:] = np.arange(32) == 0
        w.all_active = False
        put_address(w, 2, base)
        w.vgpr[4] = value
        run(arch, f"global_atomic_{word} v[2:3], v4, off", w)
        assert tensor.view(np.uint32)[0] == want


def test_bf16_sums_are_torch_s_on_any_bits():
    memory, tensor, base = mapped(4 * 192)
    w = state("gfx942", memory=memory, full=True)
    put_address(w, 2, base + 4 * np.arange(192).reshape(3, 64))
    old = tensor.view(np.uint16).copy()
    value = np.ascontiguousarray(w.vgpr[4]).view(np.uint16).ravel().copy()
    near = np.arange(len(old)) % 2 == 0  # every other pair close in size, where rounding is decided
    value[near] = old[near] ^ np.random.default_rng(8).integers(0, 1 << 12, near.sum()).astype(np.uint16)
    w.vgpr[4] = value.view(np.uint32).reshape(3, 64)
    run("gfx942", "global_atomic_pk_add_bf16 v[2:3], v4, off", w)
    left, right = (torch.from_numpy(v).view(torch.bfloat16) for v in (old, value))
    want, got = left + right, torch.from_numpy(tensor.view(np.uint16).copy()).view(torch.bfloat16)
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.nan_to_num(), want.nan_to_num())


def test_atomics_trap_where_their_size_does_not_divide_the_address():
    memory, _, base = mapped(64)
    w = state("gfx1100", memory=memory)
    put_address(w, 2, base + 4)
    run("gfx1100", "global_atomic_add_u32 v[2:3], v4, off", w)
    with pytest.raises(Fault) as caught:
        run("gfx1100", "global_atomic_add_u64 v[2:3], v[4:5], off", w)
    assert caught.value.kind == MISALIGNED
    put_address(w, 2, base + 64)
    with pytest.raises(Fault) as caught:
        run("gfx1100", "global_atomic_add_u32 v[2:3], v4, off", w)
    assert caught.value.kind == OUT_OF_BOUNDS
