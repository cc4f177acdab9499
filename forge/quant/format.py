"""`QuantFormat`: value = scale * code - minimum, for every GGUF element type; how its file bytes become planes.

A code is an integer of 4 to 8 bits (a table may map it to another int8), and a group of 16 or 32 weights shares a
scale and a minimum. The planes of a tensor [N,K] in the layout "rows", whose unit is a run of 32 weights:

    q  int32 words of codes. With two halves (types of 4 to 6 bits) [N,K/8], four words a run: byte b of word w holds
       in its low nibble the low four bits of weight 4w+b of the run, in its high nibble those of weight 16+4w+b. So a
       half lines up with consecutive activations, and is the whole of a group of 16. With one half (8 bits) [N,K/4],
       eight words a run: byte b of word w is the int8 code of weight 4w+b.
    h  int32 [N,K/group], the `high` upper bits of each code: bits `high * i` and up of byte b of a group's word are
       those of weight 4i+b of the group.
    s  a group's own scale (and minimum) as the file quantizes it, or absent.
    d  the block's fp16 scale, or one int32 word of fp16 scale (low half) and fp16 minimum (high half).

They hold the file's bits and no others, so `raw` is the exact inverse of `planes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from forge.graph.types import DTYPES, DType, TensorType
from forge.quant import words


class Fields(NamedTuple):
    """Blocks taken apart: codes uint8 [B,block] as stored, group scales [B,groups] or None, block scales [B,1]."""

    codes: Tensor
    s: Tensor | None
    d: Tensor


@dataclass(frozen=True)
class QuantFormat:
    """One element type. Immutable; consumers get `codes` and `scales` as constexpr and never look at `name`.

    `split` takes blocks uint8 [B,nbytes] apart and `join` is its inverse; `levels` gives (scale, minimum or None) in
    f32 [B,groups] from s and d. On a device, `codes(q, h, w, half)` gives an int32 of four int8 codes from a q word,
    the h word of their group, the q word's place in its run and the half; `scales(s_ptr, d_ptr, group, mask)` gives the
    (scale, minimum) of a group counted over the whole tensor. A plain type (f32, f16, bf16) has groups of 1 and none
    of these.
    """

    name: str
    group: int
    halves: int = 1
    high: int = 0  # bits of a code that lie in h
    offset: int = 0  # subtracted from a stored code
    has_min: bool = False
    s_type: str | None = None
    d_type: str = "f16"
    halfs: tuple[int, ...] = ()  # where a block's fp16 scales lie: byte offsets
    split: Callable[[Tensor], Fields] | None = None
    join: Callable[[Fields], Tensor] | None = None
    levels: Callable[[Tensor | None, Tensor], tuple[Tensor, Tensor | None]] | None = None
    codes: Any = None
    scales: Any = None

    @property
    def dtype(self) -> DType:
        return DTYPES[self.name]

    @property
    def plain(self) -> bool:
        return self.group == 1

    def plane_types(self, shape: tuple[int, ...]) -> dict[str, TensorType]:
        """The planes of a tensor of this type and shape."""
        *rows, width = shape
        if self.plain:
            return {"q": TensorType(shape, self.dtype)}
        block = self.dtype.block
        planes = {"q": TensorType((*rows, width // (4 * self.halves)), DTYPES["i32"])}
        if self.high:
            planes["h"] = TensorType((*rows, width // self.group), DTYPES["i32"])
        if self.s_type:
            planes["s"] = TensorType((*rows, width // self.group), DTYPES[self.s_type])
        planes["d"] = TensorType((*rows, width // block), DTYPES[self.d_type])
        return planes

    def planes(self, raw: Tensor) -> dict[str, Tensor]:
        """The planes of raw uint8 [rows,row_bytes], rows of whole blocks; on the device that `raw` is on."""
        rows = raw.shape[0]
        if self.plain:
            return {"q": raw.contiguous().view(words.TORCH[self.name])}
        assert self.split is not None
        codes, s, d = self.split(raw.reshape(-1, self.dtype.nbytes))
        q = words.nibbles(codes) if self.halves == 2 else codes.contiguous().view(torch.int32)
        planes = {"q": q, "d": d}
        if self.high:
            planes["h"] = words.high_bits(codes.reshape(-1, self.group), self.high)
        if s is not None:
            planes["s"] = s
        return {n: p.reshape(rows, -1) for n, p in planes.items()}

    def raw(self, planes: dict[str, Tensor]) -> Tensor:
        """The raw uint8 [rows,row_bytes] that `planes` were made of."""
        rows = planes["q"].shape[0]
        if self.plain:
            return planes["q"].view(torch.uint8).reshape(rows, -1)
        assert self.join is not None
        return self.join(self.fields(planes)).reshape(rows, -1)

    def fields(self, planes: dict[str, Tensor]) -> Fields:
        """Planes as the blocks' fields."""
        q = planes["q"]
        codes = words.from_nibbles(q) if self.halves == 2 else q.contiguous().view(torch.uint8)
        codes = codes.reshape(-1, self.group)
        if self.high:
            codes = codes | words.from_high_bits(planes["h"].reshape(-1, 1), self.high, self.group)
        groups = self.dtype.block // self.group
        s = planes["s"].reshape(-1, groups) if "s" in planes else None
        return Fields(codes.reshape(-1, self.dtype.block), s, planes["d"].reshape(-1, 1))

    def values(self, fields: Fields) -> Tensor:
        """f32 [B,groups,group]: scale * (code - offset) - minimum."""
        assert self.levels is not None
        scale, minimum = self.levels(fields.s, fields.d)
        codes = fields.codes
        if self.halves == 1:
            codes = codes.view(torch.int8)
        elif self.offset:
            codes = codes.view(torch.int8) - self.offset
        values = codes.reshape(scale.shape[0], -1, self.group).to(torch.float32)
        values *= scale[..., None]
        if minimum is not None:
            values -= minimum[..., None]
        return values
