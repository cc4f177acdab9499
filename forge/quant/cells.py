"""Pages of keys and values as codes of 8 bits: x[E] = scale * code[E], with one f32 scale a token and head.

`i8` is symmetric, scale = max|x| / 127, and `e4m3` (OCP fp8, e4m3fn) has scale = max|x| / 448; x / scale is rounded to
nearest, ties to even. A row of zeros has the scale 0. A row with a NaN or an infinity has the scale NaN: it is NaN as
a whole. Pages are a state [2,P,K,B,E+4] of one byte an element, so that what copies, counts or compares pages need not
know of it. Of the page of a head first come the codes, [B,E] of keys and [E,B] of values, and then the B scales: either
way the codes that a product sums over lie side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forge.graph.types import DType, TensorType, dtype, tensor

if TYPE_CHECKING:
    import torch

SCALE = 4  # bytes
LARGEST = {"i8": 127.0, "e4m3": 448.0}  # code


def row_width(width: int, dtype: DType) -> int:
    """Elements that pages of `dtype` have for a head of `width`."""
    return width + SCALE if dtype.codes else width


def page_type(of: str | DType, pages: int, heads: int, block: int, width: int) -> TensorType:
    """[2,P,K,B,E], or [2,P,K,B,E+4] of codes: pages of the element type `of`."""
    return tensor(of, 2, pages, heads, block, row_width(width, dtype(of)))


def parts(kv: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor | None]:
    """Views of pages: (k, v), numbers or codes [P,K,B,E] each, and the scales f32[2,P,K,B] of codes.

    Codes are int8, or uint8 that hold the bits of e4m3.
    """
    import torch

    if kv.element_size() > 1:
        return (kv[0], kv[1]), None
    block, width = kv.shape[3], kv.shape[4] - SCALE
    raw = kv.view(torch.int8 if kv.dtype == torch.int8 else torch.uint8).flatten(-2)
    k, v = raw[..., : block * width]
    numbers = k.unflatten(-1, (block, width)), v.unflatten(-1, (width, block)).transpose(-1, -2)
    return numbers, raw[..., block * width :].view(torch.float32)


def encode(x: torch.Tensor, dtype: DType) -> tuple[torch.Tensor, torch.Tensor]:
    """(codes [...,E] as `parts` has them, scales f32[...]) of x [...,E]."""
    import torch

    x = x.float()
    scale = x.abs().amax(-1) / LARGEST[dtype.name] + (x * 0).sum(-1)
    y = x / torch.where(scale == 0, 1.0, scale)[..., None]
    if dtype.name == "i8":
        return y.round().nan_to_num(0).to(torch.int8), scale
    return y.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8), scale


def decode(codes: torch.Tensor, scales: torch.Tensor | None, to: torch.dtype) -> torch.Tensor:
    """The numbers [...,E] in the type `to`, of views that `parts` gives or of what was taken from them."""
    import torch

    if scales is None:
        return codes.to(to)
    codes = codes.view(torch.float8_e4m3fn) if codes.dtype == torch.uint8 else codes
    return (codes.float() * scales[..., None]).to(to)


def dense(kv: torch.Tensor) -> torch.Tensor:
    """f32[2,P,K,B,E]: what pages of any type hold."""
    import torch

    numbers, scales = parts(kv)
    return decode(torch.stack(numbers), scales, torch.float32)
