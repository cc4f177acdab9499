"""`QuantFormat`: value = scale * code - minimum, for every element type; how its file bytes become planes.

A code is an int8, which the file stores in 1 to 8 bits, or as a number in a table. A group of 16 or 32 weights shares
a scale and a minimum. The planes of a tensor [N,K] in the layout "rows", whose unit is a run of 32 weights:

    q      int32 words, `words` of them a run. Byte b of word w holds in its field f, counted from the lowest bits, the
           number 4 * (f * words + w) + b of the run. 4 bits: four words, whose low nibbles are the weights 0 to 15 and
           whose high nibbles are 16 to 31, so that a field is the whole of a group of 16. 8 bits: eight words.
    h      int32 words: the `high` upper bits of codes of odd widths. A word serves 32 / high weights: field i of its
           byte b belongs to weight 4i + b of these.
    s      a group's own scale (and minimum) as the file quantizes it, or absent.
    d      the block's scale, or one int32 word of fp16 scale (low half) and fp16 minimum (high half).
    sum    of quantized activations: the sum of a group's values, by which a weight's minimum is multiplied.
    table  what the numbers in q stand for, where the type has a table: the same for every tensor.

But for sum and table they hold the file's bits and no others, so `raw` is the exact inverse of `planes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from forge.graph.types import DTYPES, DType, TensorType
from forge.language import DeviceObject
from forge.quant import words
from forge.torch_types import torch_type

RUN = 32  # weights: the unit of the planes


class Fields(NamedTuple):
    """Blocks taken apart: codes uint8 [B,numbers] as stored, group scales [B,groups] or None, block scales [B,1].

    `second` is of activations alone: int8 codes that count 256ths of the first.
    """

    codes: Tensor
    s: Tensor | None
    d: Tensor
    second: Tensor | None = None


@dataclass(frozen=True, repr=False)
class QuantFormat(DeviceObject):
    """One element type. Immutable; kernels get the whole of it as one constexpr and never look at `name`.

    On the host, `split` takes blocks uint8 [B,nbytes] apart and `join` is its inverse; `levels` gives (scale, minimum
    or None) in f32 [B,groups] from s and d; `decoded` gives the codes that the stored numbers stand for, where they are
    not these themselves less `offset`. `scales_at` are the byte offsets of a block's fp16 scales, each with the factor
    that makes random blocks of an RMS near 1; `random(generator, count, rms)` makes blocks where that does not do.

    Activations' types have no blocks; `quantize` gives their planes of x [T,D].

    On a device, `codes(w, q, at, mask, FIELD)` gives an int32 of four int8 codes for each word of q, loaded from the
    runs `at`; `scales(w, at, mask, PART)` gives the (scale, minimum) of group PART of each run. `w` are the planes by
    name. A plain type (f32, f16, bf16) has groups of 1 and none of these.
    """

    name: str
    group: int
    bits: int = 8  # of a number in q
    high: int = 0  # bits of a code that lie in h
    offset: int = 0  # subtracted from a stored code
    minimum: bool = False
    numbers: int = RUN  # in q, a run: fewer where a number stands for several weights
    s_type: str | None = None
    d_type: str = "f16"
    sums: bool = False  # whether there is a plane `sum`: quantized activations have it
    residual: bool = False  # whether h holds second codes, in 256ths of the first
    table: tuple[int, ...] = ()  # int32 words
    scales_at: Mapping[int, float] = field(default_factory=dict, hash=False)
    split: Callable[[Tensor], Fields] | None = None
    join: Callable[[Fields], Tensor] | None = None
    levels: Callable[[Tensor | None, Tensor], tuple[Tensor, Tensor | None]] | None = None
    decoded: Callable[[Fields], Tensor] | None = None
    quantize: Callable[[Tensor], dict[str, Tensor]] | None = None
    random: Callable[[torch.Generator, int, float], Tensor] | None = None
    codes: Any = None
    scales: Any = None

    @property
    def dtype(self) -> DType:
        return DTYPES[self.name]

    @property
    def plain(self) -> bool:
        return self.group == 1

    @property
    def words(self) -> int:
        """int32 words of q a run."""
        return self.numbers * self.bits // 32

    @property
    def fields(self) -> int:
        """Words of four codes that a word of q gives."""
        return RUN // 4 // self.words

    @property
    def words_at_once(self) -> int:
        """Words of a run whose upper bits lie in the same place of a word of h, or all where there are none."""
        return 1 if self.high else self.words

    @property
    def parts(self) -> int:
        """Groups a run."""
        return RUN // self.group

    def seen(self) -> tuple[Any, ...]:
        numbers = (self.name, self.group, self.bits, self.high, self.minimum, self.numbers, self.residual)
        return (*numbers, self.codes, self.scales)

    def plane_types(self, shape: tuple[int, ...]) -> dict[str, TensorType]:
        """The planes of a tensor of this type and shape, but for the table."""
        *rows, width = shape
        if self.plain:
            return {"q": TensorType(shape, self.dtype)}

        def plane(elements: int, type: str) -> TensorType:
            return TensorType((*rows, elements), DTYPES[type])

        planes = {"q": plane(width // RUN * self.words, "i32")}
        if self.high:
            planes["h"] = plane(width // (32 // self.high), "i32")
        if self.s_type:
            planes["s"] = plane(width // self.group, self.s_type)
        planes["d"] = plane(width // self.dtype.block, self.d_type)
        if self.sums:
            planes["sum"] = plane(width // self.group, "f32")
        return planes

    def planes(self, raw: Tensor) -> dict[str, Tensor]:
        """The planes of raw uint8 [rows,row_bytes], rows of whole blocks; on the device that `raw` is on."""
        rows = raw.shape[0]
        if self.plain:
            return {"q": raw.contiguous().view(torch_type(self.name))}
        assert self.split is not None
        codes, s, d, _ = self.split(raw.reshape(-1, self.dtype.nbytes))
        planes = {"q": words.packed(codes.reshape(-1, self.numbers), self.bits), "d": d}
        if self.high:
            planes["h"] = words.high_bits(codes.reshape(-1, 32 // self.high), self.high)
        if s is not None:
            planes["s"] = s
        return {n: p.reshape(rows, -1) for n, p in planes.items()}

    def raw(self, planes: Mapping[str, Tensor]) -> Tensor:
        """The raw uint8 [rows,row_bytes] that `planes` were made of."""
        rows = planes["q"].shape[0]
        if self.plain:
            return planes["q"].view(torch.uint8).reshape(rows, -1)
        assert self.join is not None
        return self.join(self.taken_apart(planes)).reshape(rows, -1)

    def taken_apart(self, planes: Mapping[str, Tensor]) -> Fields:
        """Planes as the blocks' fields."""
        codes = words.unpacked(planes["q"].reshape(-1, self.words), self.bits)
        second = planes["h"].view(torch.int8).reshape(-1, self.dtype.block) if self.residual else None
        if self.high and not self.residual:
            upper = words.from_high_bits(planes["h"].reshape(-1, 1), self.high)
            codes = codes.reshape(upper.shape) | upper
        s = planes["s"].reshape(-1, self.dtype.block // self.group) if "s" in planes else None
        return Fields(codes.reshape(-1, self.dtype.block * self.numbers // RUN), s, planes["d"].reshape(-1, 1), second)

    def values(self, fields: Fields) -> Tensor:
        """f32 [B,groups,group]: scale * code - minimum."""
        assert self.levels is not None
        scale, minimum = self.levels(fields.s, fields.d)
        codes = self.decoded(fields) if self.decoded else fields.codes.view(torch.int8) - self.offset
        values = codes.reshape(scale.shape[0], -1, self.group).to(torch.float32)
        values *= scale[..., None]
        if minimum is not None:
            values -= minimum[..., None]
        return values
