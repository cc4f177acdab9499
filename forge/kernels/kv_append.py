"""Writing the keys and values of a step into pages."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, tl


def _types(kv, k, v, slots):
    expect(kv.rank == 5 and kv.shape[0] == 2 and kv.dtype.floating, "kv must be floating point [2,P,K,B,E]")
    expect(k == v and k.rank == 3, "k and v must have one type, [T,K,E]")
    expect(k.dtype == kv.dtype, "k and v must have kv's element type", "give the projection that makes them that `out`")
    expect(k.shape[1:] == (kv.shape[2], kv.shape[4]), "k and v must have kv's heads and head width")
    expect(slots.dtype.name == "i32" and slots.shape == k.shape[:1], "slots must be i32[T]")
    return kv


def _reference(kv, k, v, slots):
    kv = kv.clone()
    block = kv.shape[3]
    for token, slot in enumerate(slots.tolist()):
        if slot >= 0:
            kv[0, slot // block, :, slot % block] = k[token]
            kv[1, slot // block, :, slot % block] = v[token]
    return kv


def _cost(kv, k, v, slots):
    return Cost(bytes=4 * k.nbytes + slots.nbytes)


def _cases():
    def case(name, slots, pages, heads, block, width, dt="f16", **more):
        t = len(slots)
        k = tensor(dt, t, heads, width)
        types = (tensor(dt, 2, pages, heads, block, width), k, k, tensor("i32", t))
        return Case(name, types, fills={"slots": fills.constant(slots)}, **more)

    for dt in ("f16", "bf16", "f32"):
        yield case(dt, [37, 0, 15, 16, 63], 4, 2, 16, 64, dt)
    yield case("one token", [21], 3, 8, 16, 128)
    yield case("one token not stored", [-1], 2, 2, 16, 32)
    yield case("some not stored", [-1, 7, -1, 31, 8, -1], 2, 3, 16, 80)
    yield case("pages of 12", [35, 12, 11, 0], 3, 2, 12, 32)
    yield case("wider than a block", [5, 33], 3, 20, 16, 64)


ROLES = {"kv": "state", "k": "activation", "v": "activation"}


@op(
    types=_types,
    reference=_reference,
    cost=_cost,
    cases=lambda: tuple(_cases()),
    writes="kv",
    roles=ROLES,
    axes={"kv": "2.KBE", "k": "TKE", "v": "TKE", "slots": "T"},
)
def kv_append(kv, k, v, slots):
    """kv[0, slots[t] // B, :, slots[t] % B] = k[t], and kv[1] = v[t] likewise, in place.

    kv[2,P,K,B,E]; k and v [T,K,E], which may be columns of a wider tensor. A token whose slot is -1 is not stored.
    Slots differ from each other.
    """


@jit
def _kv_append(
    k_pages_ptr,  # [P,K,B,E]
    v_pages_ptr,
    k_ptr,  # [T,K,E]
    v_ptr,
    slots_ptr,
    k_stride_t,
    v_stride_t,
    K: tl.constexpr,
    B: tl.constexpr,
    E: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_earlier(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots_ptr + token).to(tl.int64)
    if slot < 0:
        return
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = i < K * E
    to = ((slot // B * K + i // E) * B + slot % B) * E + i % E
    tl.store(k_pages_ptr + to, tl.load(k_ptr + token * k_stride_t + i, mask), mask)
    tl.store(v_pages_ptr + to, tl.load(v_ptr + token * v_stride_t + i, mask), mask)


@kv_append.kernel(space=Space(BLOCK=(1024, 512, 2048), num_warps=(4, 2, 8)))
def kv_append_rows(site, kv, k, v, slots):
    """A program a token and block of its row."""
    t, heads, width = k.shape
    site.dense("kv_append", kv=kv, k=k[:1], v=v[:1])  # tokens may lie apart, the heads of one may not
    k, v = k.view(t, heads * width), v.view(t, heads * width)
    grid = (t, cdiv(heads * width, site["BLOCK"]))
    args = (kv[0], kv[1], k, v, slots, k.stride(0), v.stride(0))
    return site.launch(_kv_append, grid, *args, K=heads, B=kv.shape[3], E=width)


@kv_append.kernel(on="cpu")
def kv_append_torch(site, kv, k, v, slots):
    """Pages seen as [P,B,K,E], so that a token is one index; one token is a plain copy."""
    block = kv.shape[3]
    k_pages, v_pages = kv[0].transpose(1, 2), kv[1].transpose(1, 2)

    def one():
        slot = slots.item()
        if slot >= 0:
            page, offset = divmod(slot, block)
            k_pages[page, offset].copy_(k[0])
            v_pages[page, offset].copy_(v[0])

    def many():
        stored = (slots >= 0).nonzero().squeeze(1)
        at = slots[stored]
        to = (at // block, at % block)
        k_pages.index_put_(to, k[stored])
        v_pages.index_put_(to, v[stored])

    return one if len(slots) == 1 else many
