"""Writing the keys and values of a step into pages."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import DTYPES, tensor
from forge.kernels import fills
from forge.kernels.device.cells import code_of, scale_of
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, next_power_of_2, tl
from forge.quant.cells import encode, page_type, parts, row_width
from forge.torch_types import type_name


def _types(kv, k, v, slots):
    expect(kv.rank == 5 and kv.shape[0] == 2, "kv must be [2,P,K,B,E]")
    expect(kv.dtype.fits_f32 or kv.dtype.codes, "kv must be f32, f16, bf16, i8 or e4m3")
    expect(k == v and k.rank == 3 and k.dtype.fits_f32, "k and v must have one type, f32, f16 or bf16 [T,K,E]")
    expect(not kv.dtype.codes or k.shape[2] % 4 == 0, "heads that become codes must be a multiple of 4 wide")
    heads = (kv.shape[2], kv.shape[4])
    expect((k.shape[1], row_width(k.shape[2], kv.dtype)) == heads, "k and v must have kv's heads and head width")
    expect(slots.dtype.name == "i32" and slots.shape == k.shape[:1], "slots must be i32[T]")
    return kv


def _reference(kv, k, v, slots):
    kv = kv.clone()
    pages, scales = parts(kv)
    block = kv.shape[3]
    for token, slot in enumerate(slots.tolist()):
        for i, x in enumerate((k[token], v[token])):
            if slot >= 0 and scales is None:
                pages[i][slot // block, :, slot % block] = x
            elif slot >= 0:
                at = (slot // block, slice(None), slot % block)
                pages[i][at], scales[i][at] = encode(x, DTYPES[type_name(kv.dtype)])
    return kv


def _cost(kv, k, v, slots):
    t, heads, width = k.shape
    written = kv.dtype.size(2 * t * heads * row_width(width, kv.dtype))
    return Cost(bytes=2 * k.nbytes + written + slots.nbytes)


def _cases():
    def case(name, slots, pages, heads, block, width, dt="f16", kv="", fill=fills.normal, **more):
        t = len(slots)
        k = tensor(dt, t, heads, width)
        types = (page_type(kv or dt, pages, heads, block, width), k, k, tensor("i32", t))
        fill = {"kv": fills.pages, "k": fill, "v": fill, "slots": fills.constant(slots)}
        return Case(name, types, fills=fill, **more)

    for dt in ("f16", "bf16", "f32"):
        yield case(dt, [37, 0, 15, 16, 63], 4, 2, 16, 64, dt)
    yield case("one token", [21], 3, 8, 16, 128)
    yield case("one token not stored", [-1], 2, 2, 16, 32)
    yield case("some not stored", [-1, 7, -1, 31, 8, -1], 2, 3, 16, 80)
    yield case("pages of 12", [35, 12, 11, 0], 3, 2, 12, 32)
    yield case("wider than a block", [5, 33], 3, 20, 16, 64)
    yield case("bf16 of f16", [5, 33], 3, 2, 16, 64, kv="bf16")
    for kv in ("i8", "e4m3"):
        for dt in ("f16", "bf16", "f32"):
            yield case(f"{kv} of {dt}", [37, 0, -1, 15, 16, 63], 4, 3, 16, 64, dt, kv)
        yield case(f"{kv}, one token", [21], 3, 8, 16, 128, kv=kv)
        yield case(f"{kv}, pages of 12, heads of 80", [35, 12, -1], 3, 20, 12, 80, kv=kv)
        yield case(f"{kv}, a row of zeros", [3, 1], 1, 2, 16, 32, kv=kv, fill=fills.zero_row)
        yield case(f"{kv}, huge", [3, 1], 1, 2, 16, 32, "f32", kv, fills.scaled(1e30))
        yield case(f"{kv}, tiny", [3, 1], 1, 2, 16, 32, "f32", kv, fills.scaled(1e-30))
        yield case(f"{kv}, infinities", [3, 1, 7], 1, 2, 16, 32, "f32", kv, fills.scaled(1e38))


ROLES = {"kv": "state", "k": "activation", "v": "activation"}


@op(
    types=_types,
    reference=_reference,
    cost=_cost,
    cases=lambda: tuple(_cases()),
    writes="kv",
    roles=ROLES,
    axes={"kv": "2.KB.", "k": "TKE", "v": "TKE", "slots": "T"},
)
def kv_append(kv, k, v, slots):
    """kv[0, slots[t] // B, :, slots[t] % B] = k[t], and kv[1] = v[t] likewise, in place.

    kv[2,P,K,B,E], or [2,P,K,B,E+4] of i8 or e4m3, which are codes with a scale a token and head: see
    `forge.quant.cells`. k and v [T,K,E] may be columns of a wider tensor. A token whose slot is -1 is not stored. Slots
    differ from each other.
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
    to_type = k_pages_ptr.dtype.element_ty
    tl.store(k_pages_ptr + to, tl.load(k_ptr + token * k_stride_t + i, mask).to(to_type), mask)
    tl.store(v_pages_ptr + to, tl.load(v_ptr + token * v_stride_t + i, mask).to(to_type), mask)


@jit
def _coded_row(
    pages_ptr, scales_ptr, x_ptr, at, to, scale_to, mask, E: tl.constexpr, APART: tl.constexpr, BLOCK_E: tl.constexpr
):  # fmt: skip
    """Rows of x as codes at pages_ptr + to, APART from each other, and their scales at scales_ptr + scale_to."""
    e = tl.arange(0, BLOCK_E)[None, :]
    inside = mask[:, None] & (e < E)
    x = tl.load(x_ptr + at[:, None] + e, inside, 0.0).to(tl.float32)
    FP8: tl.constexpr = pages_ptr.dtype.element_ty == tl.uint8
    scale = scale_of(tl.max(tl.abs(x), 1), tl.sum(x * 0.0, 1), FP8)
    tl.store(pages_ptr + to[:, None] + e * APART, code_of(x, scale, FP8), inside)
    tl.store(scales_ptr + scale_to, scale, mask)


@jit
def _kv_append_codes(
    k_pages_ptr,  # [P,K,B,E], PAGE bytes from a page of a head to the next
    v_pages_ptr,  # [P,K,E,B]
    k_scales_ptr,  # f32[P,K,B]
    v_scales_ptr,
    k_ptr,  # [T,K,E]
    v_ptr,
    slots_ptr,
    k_stride_t,
    v_stride_t,
    K: tl.constexpr,
    B: tl.constexpr,
    E: tl.constexpr,
    PAGE: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCK_E: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    wait_for_earlier(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots_ptr + token).to(tl.int64)
    if slot < 0:
        return
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    mask = head < K
    page = slot // B * K + head
    k_at, v_at = token * k_stride_t + head * E, token * v_stride_t + head * E
    offset = slot % B
    k_to, v_to, scale_to = page * PAGE + offset * E, page * PAGE + offset, page * (PAGE // 4) + offset
    _coded_row(k_pages_ptr, k_scales_ptr, k_ptr, k_at, k_to, scale_to, mask, E, 1, BLOCK_E)
    _coded_row(v_pages_ptr, v_scales_ptr, v_ptr, v_at, v_to, scale_to, mask, E, B, BLOCK_E)


def _codes(call):
    return call.types[0].dtype.codes


@kv_append.kernel(
    space=Space(BLOCK=(1024, 512, 2048), num_warps=(4, 2, 8)), when=lambda call: not _codes(call)
)  # fmt: skip
def kv_append_rows(site, kv, k, v, slots):
    """A program a token and block of its row."""
    t, heads, width = k.shape
    site.dense("kv_append", kv=kv, k=k[:1], v=v[:1])  # tokens may lie apart, the heads of one may not
    k, v = k.view(t, heads * width), v.view(t, heads * width)
    grid = (t, cdiv(heads * width, site["BLOCK"]))
    args = (kv[0], kv[1], k, v, slots, k.stride(0), v.stride(0))
    return site.launch(_kv_append, grid, *args, K=heads, B=kv.shape[3], E=width)


@kv_append.kernel(space=Space(HEADS=(4, 1, 2, 8), num_warps=(1, 2, 4)), when=_codes)
def kv_append_codes(site, kv, k, v, slots):
    """A program a token and a few of its heads."""
    site.dense("kv_append", kv=kv, k=k[:1], v=v[:1])
    t, heads, width = k.shape
    pages, scales = parts(kv)
    k, v = k.view(t, heads * width), v.view(t, heads * width)
    args = (*pages, *scales, k, v, slots, k.stride(0), v.stride(0))
    sizes = dict(K=heads, B=kv.shape[3], E=width, PAGE=kv[0, 0, 0].numel(), BLOCK_E=next_power_of_2(width))
    return site.launch(_kv_append_codes, (t, cdiv(heads, site["HEADS"])), *args, **sizes)


@kv_append.kernel(on="cpu", when=_codes)
def kv_append_codes_torch(site, kv, k, v, slots):
    """The rows of all tokens that are stored, as codes."""
    block = kv.shape[3]
    pages, scales = parts(kv)
    dtype = DTYPES[type_name(kv.dtype)]

    def step():
        stored = (slots >= 0).nonzero().squeeze(1)
        page, offset = slots[stored] // block, slots[stored] % block
        for i, x in enumerate((k, v)):
            codes, scale = encode(x[stored], dtype)
            pages[i].transpose(1, 2)[page, offset] = codes
            scales[i].transpose(1, 2)[page, offset] = scale

    return step


@kv_append.kernel(on="cpu", when=lambda call: not _codes(call))
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
        k_pages.index_put_(to, k[stored].to(kv.dtype))
        v_pages.index_put_(to, v[stored].to(kv.dtype))

    return one if len(slots) == 1 else many
