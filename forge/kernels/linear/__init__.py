"""Linear: activations times a weight of any type, and the bias."""

from __future__ import annotations

from forge.graph.op import Cost, Space, expect, op
from forge.graph.types import TensorType, dtype
from forge.kernels.dequantize import dequantize_tile
from forge.kernels.device.tile import operand
from forge.kernels.linear import dozens, library, tile
from forge.kernels.linear.cases import cases
from forge.kernels.linear.cpu import head_workspace, is_head, linear_head, linear_torch, product_type, product_workspace
from forge.kernels.linear.gemv import DOTS, gemv_float, gemv_int
from forge.language import cdiv, next_power_of_2
from forge.quant import format_of

# What kernels can hold; which of them is quickest at how many tokens stands in tuning/default/linear.json.
INT_SUMS = 16  # tokens whose sums a program of integer products keeps in registers
FLOAT_SUMS = 8
TILE_ROWS = 64  # tokens in the largest tile that holds all of them


def _types(x, w, bias, *, out):
    expect(x.rank == 2 and w.rank == 2, "x must be [T,K] and w [N,K]")
    expect(x.shape[1] == w.shape[1], "x and w differ in K, their last axis")
    expect(x.dtype.floating or x.dtype.activation, "x must be floating point, a8 or a16")
    expect(w.dtype.floating or w.dtype.quantized, "w must hold weights")
    expect(not w.dtype.activation, "w must hold weights, not quantized activations")
    expect(x.dtype.floating or w.dtype.quantized, f"x in {x.dtype} needs a weight of a block type", "pass x in f16")
    if bias is not None:
        expect(bias == TensorType(w.shape[:1], dtype("f32")), "bias must be f32[N]")
    expect(dtype(out).floating, f"out={out!r} is no floating type")
    return TensorType((x.shape[0], w.shape[0]), dtype(out))


def _reference(x, w, bias, *, out):
    y = x.float() @ w.float().T
    return y if bias is None else y + bias


def _cost(x, w, bias, *, out):
    y = _types(x, w, bias, out=out)
    moved = x.nbytes + w.nbytes + y.nbytes + (0 if bias is None else bias.nbytes)
    return Cost(bytes=moved, flops=2 * x.numel * w.concrete()[0])


@op(
    types=_types,
    reference=_reference,
    cost=_cost,
    cases=lambda: tuple(cases()),
    roles={"x": "activation", "w": "weight", "bias": "bias"},
    axes={"x": "TK", "w": "NK", "bias": "N"},
    stacks=True,
)
def linear(x, w, bias=None, *, out="f16"):
    """y[T,N] = x[T,K] @ w[N,K]^T + bias[N]; summed in fp32, rounded once to `out`.

    x is floating point, or a8 or a16 (then w must be a block type); w is floating point or a block type. Few tokens
    are multiplied in fp32; more with the dequantized operands rounded to fp16. Results in f32 are of operands that are
    not rounded, but where x is f16 and of 5 to 64 tokens. On a CPU bfloat16 to bfloat16 rounds the bias to that type,
    and `linear_library` may sum parts in fp16.
    """


def _x(call):
    return call.types[0].dtype


def _w(call):
    return call.types[1].dtype


def _tokens(call):
    return call.types[0].concrete()[0]


@linear.kernel(
    when=lambda call: _x(call).activation and _tokens(call) <= INT_SUMS,
    space=Space(ROWS=(4, 1, 2), BLOCK_K=(1024, 2048, 4096), STAGES=(1, 2, 3), num_warps=(1, 2, 4)),
)
def linear_gemv(site, y, x, w, bias, *, out):
    """Integer products of a8 or a16 and block types; the weight is read once for all tokens."""
    t, n = y.shape
    (x_planes, x_form), (w_planes, w_form) = operand(x), operand(w)
    consts = dict(X=x_form, W=w_form, TOKENS=t, DOT=DOTS[site.target.int_dot])
    return site.launch(gemv_int, (cdiv(n, site["ROWS"]),), y, x_planes, w_planes, bias, n, w.shape[1], **consts)


def _float_few(call):
    return _x(call).floating and _tokens(call) <= FLOAT_SUMS


@linear.kernel(
    when=lambda call: _float_few(call) and _w(call).floating,
    space=Space(ROWS=(2, 1, 4), BLOCK_K=(1024, 512, 2048), STAGES=(1, 2, 3), num_warps=(4, 1, 2)),
)
def linear_gemv_dense(site, y, x, w, bias, *, out):
    """Floating-point activations and weight, summed in fp32."""
    return _float_gemv(site, y, x, w, bias)


@linear.kernel(
    when=lambda call: _float_few(call) and _w(call).quantized,
    space=Space(ROWS=(2, 1, 4), BLOCK_K=(512, 1024, 256), STAGES=(1, 2, 3), num_warps=(4, 1, 2)),
)
def linear_gemv_float(site, y, x, w, bias, *, out):
    """Floating-point activations and a block type, dequantized in registers; all in fp32."""
    return _float_gemv(site, y, x, w, bias)


def _float_gemv(site, y, x, w, bias):
    t, n = y.shape
    planes, form = operand(w)
    args = (y, x, planes, bias, n, w.shape[1], x.stride(0))
    return site.launch(gemv_float, (cdiv(n, site["ROWS"]),), *args, W=form, TOKENS=t)


def _fits_tall(call):
    """Whether the product of fp16 operands is what is asked for, and codes are the numbers in a weight's words."""
    x, w = _x(call), format_of(_w(call))
    straight = w.name == "f16" or (not w.plain and w.decoded is None)
    exact = call.attrs["out"] == "f16" or (call.attrs["out"] == "f32" and not call.target.flushes_halves)
    return x.name == "f16" and straight and exact and _tokens(call) <= TILE_ROWS


@linear.kernel(
    when=_fits_tall,
    rounds=lambda call: "f16" if _w(call).quantized else None,
    workspace=dozens.workspace,
    space=Space(
        BLOCK_N=(64, 128, 32),
        BLOCK_K=(64, 128, 256),
        STAGES=(1, 2, 3, 4),
        PER_UNIT=(2, 1, 4),
        BLOCK=(1024, 512),
        num_warps=(4, 8, 2),
    ),
)
def linear_tall(site, y, x, w, bias, *, out):
    """A tile of the weight's rows by every token; K is split over programs where rows are few."""
    turned, parts = site.work
    if not parts.shape[0]:
        return dozens.products(site, y, turned, x, w, bias)
    return [*dozens.products(site, parts, turned, x, w, None), dozens.sum_of(site, y, parts, bias)]


def _fits_library(call):
    """Whether the product of fp16 operands, rounded to fp16, is what is asked for: no wider result, and no bias."""
    operands = _x(call).name in ("f16", "a8", "a16") and (_w(call).quantized or _w(call).name == "f16")
    plain = call.types[2] is None and call.attrs["out"] == "f16"
    return operands and plain


@linear.kernel(when=_fits_library, workspace=library.workspace, space=dequantize_tile.space)
def linear_library(site, y, x, w, bias, *, out):
    """The operands in fp16, dequantized first where need be, and the product by cuBLAS or hipBLASLt.

    Where the library splits K it may add the parts in fp16, unless the process has set
    `torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False`; torch has no switch for one product.
    """
    return library.steps(site, y, x, w)


def _product(x, w, wide, target):
    """What the matrix units are given for operands of these formats, to a result in f32 if `wide`.

    Where they flush denormals, parts of an f32 result's operands would be lost: it is made in single precision.
    """
    if wide and target.flushes_halves and not (x.plain and w.plain):
        return tile.F32
    if (x.name == "f16" or x.dtype.activation) and (w.name == "f16" or not w.plain):
        if not wide or w.plain:
            return tile.F16
        return tile.F16_W_TWICE if x.plain else tile.F16_BOTH_TWICE
    if x.name in ("f16", "bf16") and w.name == "bf16":
        return tile.BF16_X_TWICE if x.name == "f16" else tile.BF16
    return tile.F32


def _narrow(call):
    x, w = (format_of(t.dtype) for t in call.types[:2])
    wide = call.results[0].dtype.name == "f32"
    return _product(x, w, wide, call.target) != tile.F32


@linear.kernel(
    when=lambda call: _narrow(call) and _tokens(call) <= TILE_ROWS,
    space=Space(BLOCK_N=(32, 16, 64), BLOCK_K=(64, 128, 256), BAND=(1,), STAGES=(2, 1, 3, 4), num_warps=(8, 4, 2)),
)
def linear_tile_few(site, y, x, w, bias, *, out):
    """A tile holds every token, so that each weight is read and dequantized once."""
    return _tiles(site, y, x, w, bias, max(16, next_power_of_2(y.shape[0])))


@linear.kernel(
    when=_narrow,
    space=Space(
        BLOCK_M=(64, 32, 128),
        BLOCK_N=(64, 32, 128),
        BLOCK_K=(32, 64, 128),
        BAND=(8, 4),
        STAGES=(1, 2, 3),
        num_warps=(4, 8, 2),
    ),
)
def linear_tile(site, y, x, w, bias, *, out):
    """Tiles of tokens and rows of the weight, on fp16 or bfloat16 matrix units."""
    return _tiles(site, y, x, w, bias)


@linear.kernel(
    when=lambda call: not _narrow(call),
    space=Space(BLOCK_M=(32, 16, 64), BLOCK_N=(32, 64), BLOCK_K=(32, 16), BAND=(8, 4), STAGES=(1, 2), num_warps=(4, 8)),
)
def linear_tile_f32(site, y, x, w, bias, *, out):
    """Tiles in single precision, for operands that no narrower product serves exactly."""
    return _tiles(site, y, x, w, bias)


def _tiles(site, y, x, w, bias, block_m=None):
    t, n = y.shape
    (x_planes, x_form), (w_planes, w_form) = operand(x), operand(w)
    product = _product(x_form, w_form, str(y.dtype) == "torch.float32", site.target)
    block_m = site["BLOCK_M"] if block_m is None else block_m
    grid = (cdiv(t, block_m) * cdiv(n, site["BLOCK_N"]),)
    consts = dict(X=x_form, W=w_form, PRODUCT=product, BLOCK_M=block_m)
    return site.launch(tile.linear_tiled, grid, y, x_planes, w_planes, bias, t, n, w.shape[1], **consts)


linear.kernel(on="cpu", when=is_head, layouts=lambda call: {"w": ("dense:f16",)}, workspace=head_workspace)(linear_head)
linear.kernel(
    on="cpu",
    when=lambda call: _x(call).name in ("f32", "bf16") and not is_head(call),
    layouts=lambda call: {"w": (f"dense:{product_type(call)}",)},
    workspace=product_workspace,
)(linear_torch)
