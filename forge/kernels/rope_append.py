"""What stands between the projections and attention, in one pass: norms of heads, rotation, the write into pages."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, op
from forge.graph.types import tensor
from forge.kernels import fills
from forge.kernels.device.cells import code_of, scale_of
from forge.kernels.device.dependent import wait_for_earlier
from forge.kernels.device.tile import element
from forge.kernels.kv_append import kv_append
from forge.kernels.rms_norm import rms_norm
from forge.kernels.rope import pairs_of, rope, turned, unit_circle
from forge.language import cdiv, jit, next_power_of_2, tl
from forge.quant.cells import page_type, parts, row_width


def _equals(kv, q, k, v, rotation, slots, q_norm=None, k_norm=None, *, pairs, eps=1e-6, out="f16"):
    if q_norm is not None:
        q = rms_norm(q, q_norm, eps=eps, out=out)
    if k_norm is not None:
        k = rms_norm(k, k_norm, eps=eps, out=out)
    kv = kv_append(kv, rope(k, rotation, pairs=pairs), v, slots)
    return kv, rope(q, rotation, pairs=pairs)


def _cost(kv, q, k, v, rotation, slots, q_norm, k_norm, *, pairs, eps, out):
    t, heads, width = k.shape
    read, written = 2 * k.nbytes, kv.dtype.size(2 * t * heads * row_width(width, kv.dtype))
    nbytes = 2 * q.nbytes + read + written + rotation.nbytes + slots.nbytes
    return Cost(bytes=nbytes, flops=6 * q.numel + 6 * k.numel)


def _cases():
    def case(name, slots, heads, kv_heads, width, pairs="neox", dt="f16", kv="", count=0, norms=False):
        t = len(slots)
        q, k = tensor(dt, t, heads, width), tensor(dt, t, kv_heads, width)
        pages = page_type(kv or dt, 4, kv_heads, 16, width)
        turns = tensor("f32", t, count or width // 2, 2)
        norm = tensor("f32", width) if norms else None
        fill = {"kv": fills.pages, "rotation": unit_circle, "slots": fills.constant(slots)}
        types = (pages, q, k, k, turns, tensor("i32", t), norm, norm)
        return Case(name, types, dict(pairs=pairs, eps=1e-6, out=dt), fill)

    yield case("grouped heads", [37, 0, 63], 8, 2, 128)
    yield case("neighbours", [5], 4, 4, 64, "norm")
    yield case("norms of heads", [21, 22], 8, 2, 128, norms=True)
    yield case("norms of neighbours", [21, 22], 3, 1, 96, "norm", norms=True)
    yield case("part of the head, with norms", [1, -1], 6, 2, 80, count=16, norms=True)
    yield case("some not stored, bf16", [-1, 7, -1], 5, 1, 80, dt="bf16")
    yield case("f32", [3], 2, 1, 32, "norm", dt="f32")
    yield case("f32, with norms", [3, 60], 2, 2, 32, dt="f32", norms=True)
    yield case("bf16 of f16", [37, 0], 8, 2, 64, kv="bf16")
    for kv in ("i8", "e4m3"):
        yield case(f"{kv}, grouped heads", [37, 0, -1, 63], 8, 2, 128, kv=kv)
        yield case(f"{kv}, norms of neighbours", [21, 22], 3, 1, 96, "norm", kv=kv, norms=True)
        yield case(f"{kv}, part of the head, with norms", [1, -1], 6, 2, 80, count=16, kv=kv, norms=True)
        yield case(f"{kv} of bf16", [-1, 7, -1], 5, 1, 80, dt="bf16", kv=kv)
        yield case(f"{kv} of f32", [3], 2, 1, 32, "norm", dt="f32", kv=kv)


AXES = {"kv": "2.KB.", "q": "THE", "k": "TKE", "v": "TKE", "rotation": "TP2", "slots": "T"}


@op(
    equals=_equals,
    cost=_cost,
    cases=lambda: tuple(_cases()),
    writes="kv",
    axes=AXES | {"q_norm": "E", "k_norm": "E"},
)
def rope_append(kv, q, k, v, rotation, slots, q_norm=None, k_norm=None, *, pairs, eps=1e-6, out="f16"):
    """(kv with rope(k) and v of this step, rope(q)): see `rope`, `kv_append`, and `rms_norm` of heads before them.

    q[T,H,E], k and v [T,K,E], kv[2,P,K,B,E] or codes [2,P,K,B,E+4]; q_norm and k_norm [E], if there are any, round to
    `out`. The heads of a token lie side by side.
    """


@jit
def _loaded(q_ptr, k_ptr, v_ptr, q_at, k_at, v_at, at, is_q, is_k, is_v, mask):
    """f32 elements `at` of heads, each of q, of k or of v."""
    x = tl.load(q_ptr + q_at + at, mask & is_q, 0.0) + tl.load(k_ptr + k_at + at, mask & is_k, 0.0)
    return (x + tl.load(v_ptr + v_at + at, mask & is_v, 0.0)).to(tl.float32)


@jit
def _stored(q_out_ptr, k_pages_ptr, v_pages_ptr, q_to, k_to, v_to, at, apart, x, scale, is_q, is_k, is_v, mask):
    """Store elements `at` of heads, rounded to the type of q; on pages, as codes where there is a `scale`.

    An element of v stands `apart` from the next.
    """
    x = x.to(q_out_ptr.dtype.element_ty)
    tl.store(q_out_ptr + q_to + at, x, mask & is_q)
    if scale is not None:
        x = code_of(x.to(tl.float32), scale, k_pages_ptr.dtype.element_ty == tl.uint8)
    x = x.to(k_pages_ptr.dtype.element_ty)
    tl.store(k_pages_ptr + k_to + at, x, mask & is_k)
    tl.store(v_pages_ptr + v_to + at * apart, x, mask & is_v)


@jit
def _scale(a, b, c, TO: tl.constexpr, FP8: tl.constexpr):
    """The scales of rows whose elements are a, b and c, once they are rounded to TO; beside them stand zeros."""
    a, b, c = a.to(TO).to(tl.float32), b.to(TO).to(tl.float32), c.to(TO).to(tl.float32)
    largest = tl.maximum(tl.maximum(tl.max(tl.abs(a), 1), tl.max(tl.abs(b), 1)), tl.max(tl.abs(c), 1))
    return scale_of(largest, tl.sum(a * 0.0 + b * 0.0, 1) + tl.sum(c * 0.0, 1), FP8)


@jit
def _normed(x, scale, q_norm_ptr, k_norm_ptr, at, is_q, is_k, mask, OUT: tl.constexpr):
    """x * scale * weight, rounded to OUT; heads of v, and those of which there is no norm, as they are."""
    y = x
    if q_norm_ptr is not None:
        w = tl.load(q_norm_ptr + at, mask, 0.0)
        y = tl.where(is_q, (x * scale * w).to(OUT).to(tl.float32), y)
    if k_norm_ptr is not None:
        w = tl.load(k_norm_ptr + at, mask, 0.0)
        y = tl.where(is_k, (x * scale * w).to(OUT).to(tl.float32), y)
    return y


@jit
def _rope_append(
    q_out_ptr,  # [T,H,E], dense
    k_pages_ptr,  # [P,K,B,E], PAGE elements from a page of a head to the next
    v_pages_ptr,
    k_scales_ptr,  # f32[P,K,B], or None
    v_scales_ptr,
    q_ptr,  # [T,H,E]
    k_ptr,  # [T,K,E]
    v_ptr,
    rotation_ptr,  # f32[T,COUNT,2]
    slots_ptr,  # i32[T]
    q_norm_ptr,  # f32[E], or None
    k_norm_ptr,
    q_stride_t,
    k_stride_t,
    v_stride_t,
    eps,
    H: tl.constexpr,
    K: tl.constexpr,
    B: tl.constexpr,
    E: tl.constexpr,
    PAGE: tl.constexpr,
    COUNT: tl.constexpr,
    NEOX: tl.constexpr,
    OUT: tl.constexpr,
    HEADS: tl.constexpr,
    PAIRS: tl.constexpr,
    REST: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """A program turns HEADS heads of a token: first come those of q, then those of k, then those of v."""
    wait_for_earlier(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]
    slot = tl.load(slots_ptr + token).to(tl.int64)
    is_q, is_k, is_v = head < H, (head >= H) & (head < H + K), (head >= H + K) & (head < H + 2 * K)
    q_at, k_at = token * q_stride_t + head * E, token * k_stride_t + (head - H) * E
    v_at = token * v_stride_t + (head - H - K) * E
    q_to = (token * H + head) * E
    page = slot // B * K + (head - H) % K
    k_to = page * PAGE + slot % B * E
    v_to, apart = k_to, 1
    stored = tl.where(is_q, -1, slot) >= 0
    keep_k, keep_v = is_k & stored, is_v & stored

    first, second, cos, sin, mask = pairs_of(rotation_ptr, token, COUNT, NEOX, PAIRS)
    a = _loaded(q_ptr, k_ptr, v_ptr, q_at, k_at, v_at, first, is_q, is_k, is_v, mask)
    b = _loaded(q_ptr, k_ptr, v_ptr, q_at, k_at, v_at, second, is_q, is_k, is_v, mask)
    rest = 2 * COUNT + tl.arange(0, REST if REST > 0 else 1)[None, :]
    rest_mask = rest < E
    c = _loaded(q_ptr, k_ptr, v_ptr, q_at, k_at, v_at, rest, is_q, is_k, is_v, rest_mask)
    if q_norm_ptr is not None or k_norm_ptr is not None:
        scale = tl.rsqrt((tl.sum(a * a + b * b, 1) + tl.sum(c * c, 1)) / E + eps)[:, None]
        a = _normed(a, scale, q_norm_ptr, k_norm_ptr, first, is_q, is_k, mask, OUT)
        b = _normed(b, scale, q_norm_ptr, k_norm_ptr, second, is_q, is_k, mask, OUT)
        c = _normed(c, scale, q_norm_ptr, k_norm_ptr, rest, is_q, is_k, rest_mask, OUT)
    a, b = turned(a, b, tl.where(is_v, 1.0, cos), tl.where(is_v, 0.0, sin))
    scale = None
    if k_scales_ptr is not None:
        row_scale = _scale(a, b, c, q_out_ptr.dtype.element_ty, k_pages_ptr.dtype.element_ty == tl.uint8)
        scale_to = page * (PAGE // 4) + slot % B
        tl.store(k_scales_ptr + scale_to, row_scale[:, None], keep_k)
        tl.store(v_scales_ptr + scale_to, row_scale[:, None], keep_v)
        scale = row_scale
        v_to, apart = page * PAGE + slot % B, B  # codes of values are [E,B]
    _stored(q_out_ptr, k_pages_ptr, v_pages_ptr, q_to, k_to, v_to, first, apart, a, scale, is_q, keep_k, keep_v, mask)
    _stored(q_out_ptr, k_pages_ptr, v_pages_ptr, q_to, k_to, v_to, second, apart, b, scale, is_q, keep_k, keep_v, mask)
    if REST > 0:
        _stored(
            q_out_ptr,
            k_pages_ptr,
            v_pages_ptr,
            q_to,
            k_to,
            v_to,
            rest,
            apart,
            c,
            scale,
            is_q,
            keep_k,
            keep_v,
            rest_mask,
        )


@rope_append.kernel(space=Space(HEADS=(4, 2, 8, 1, 16), num_warps=(1, 2, 4)))
def rope_append_heads(site, q_out, kv, q, k, v, rotation, slots, q_norm, k_norm, *, pairs, eps, out):
    """A program a token and a few of its heads."""
    site.dense("rope_append", rotation=rotation)
    t, heads, width = q.shape
    kv_heads, count = k.shape[1], rotation.shape[1]
    q, k, v = (x.view(t, -1) for x in (q, k, v))  # raises where the heads of a token lie apart
    pages, scales = parts(kv)
    strides = (q.stride(0), k.stride(0), v.stride(0))
    args = (q_out, *pages, *(scales if scales is not None else (None, None)), q, k, v)
    args = (*args, rotation, slots, q_norm, k_norm, *strides, eps)
    rest = next_power_of_2(width - 2 * count) if width > 2 * count else 0
    sizes = dict(H=heads, K=kv_heads, B=kv.shape[3], E=width, PAGE=kv[0, 0, 0].numel(), COUNT=count)
    sizes |= dict(PAIRS=next_power_of_2(count), REST=rest)
    grid = (t, cdiv(heads + 2 * kv_heads, site["HEADS"]))
    return site.launch(_rope_append, grid, *args, NEOX=pairs == "neox", OUT=element(out), **sizes)
