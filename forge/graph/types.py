"""Types of graph values: symbolic dimensions, element types (GGUF block types included), tensors and state.

Source of the block sizes and numbers: ggml's `ggml-common.h` and `ggml.h`, as published in the `gguf` package
(`GGML_QUANT_SIZES`), which the tests compare with this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from forge.errors import GraphError, UsageError
from forge.registry import Registry


@dataclass(frozen=True)
class Sym:
    """A dimension known only when a step runs: a name and an upper bound. There is no arithmetic on symbols."""

    name: str
    max: int

    def __post_init__(self) -> None:
        named = isinstance(self.name, str) and self.name.isidentifier()
        if not named or not isinstance(self.max, int) or self.max < 1:
            raise GraphError(f"Sym({self.name!r}, max={self.max!r}) needs an identifier and a bound of at least 1")

    def __str__(self) -> str:
        return self.name


Dim = int | Sym


@dataclass(frozen=True)
class DType:
    """An element type. `block` elements occupy `nbytes` bytes; `block` > 1 marks a quantized type.

    `gguf` is the type's number in GGUF files. A type is known by name once it is in `DTYPES`.
    """

    name: str
    block: int
    nbytes: int
    gguf: int | None = None

    def __post_init__(self) -> None:
        counts = (self.block, self.nbytes)
        if not isinstance(self.name, str) or not all(isinstance(n, int) and n > 0 for n in counts):
            raise GraphError(f"element type {self.name!r} of {self.nbytes!r} bytes for {self.block!r} elements")

    @property
    def quantized(self) -> bool:
        return self.block > 1

    @property
    def floating(self) -> bool:
        return self.name in ("f32", "f16", "bf16", "f64")

    @property
    def fits_f32(self) -> bool:
        """Whether each of its numbers is one of f32, in which kernels compute: f32, f16 or bf16."""
        return self.name in ("f32", "f16", "bf16")

    @property
    def codes(self) -> bool:
        """Whether pages of keys and values of this type hold codes, with a scale a token and head."""
        return self.name in ("i8", "e4m3")

    @property
    def activation(self) -> bool:
        """One of our own types of quantized activations, which no file holds."""
        return self.name in ("a8", "a16")

    def size(self, elements: int) -> int:
        """Bytes of `elements` elements, which must fill whole blocks."""
        if elements % self.block:
            raise GraphError(f"{elements} elements do not fill whole blocks of {self.block} {self.name}")
        return elements // self.block * self.nbytes

    def __str__(self) -> str:
        return self.name


def _unique(new: DType) -> None:
    """A number that stands for a type in files stands for no other."""
    taken = next((d for d in DTYPES.values() if d.gguf is not None and d.gguf == new.gguf), None)
    if taken is not None:
        raise UsageError(f"element type {new} has the number {new.gguf} in GGUF files, which is {taken}'s")


# name: elements a block, bytes a block, number in GGUF files (None: no file holds it)
_TABLE: Mapping[str, tuple[int, int, int | None]] = {
    "f64": (1, 8, 28), "f32": (1, 4, 0), "f16": (1, 2, 1), "bf16": (1, 2, 30),
    "i64": (1, 8, 27), "i32": (1, 4, 26), "i16": (1, 2, 25), "i8": (1, 1, 24), "u8": (1, 1, None), "bool": (1, 1, None),
    "e4m3": (1, 1, None),
    "q4_0": (32, 18, 2), "q4_1": (32, 20, 3), "q5_0": (32, 22, 6), "q5_1": (32, 24, 7), "q8_0": (32, 34, 8),
    "q2_K": (256, 84, 10), "q3_K": (256, 110, 11), "q4_K": (256, 144, 12), "q5_K": (256, 176, 13),
    "q6_K": (256, 210, 14), "iq2_xxs": (256, 66, 16), "iq2_xs": (256, 74, 17), "iq2_s": (256, 82, 22),
    "iq3_xxs": (256, 98, 18), "iq3_s": (256, 110, 21), "iq1_s": (256, 50, 19), "iq1_m": (256, 56, 29),
    "iq4_nl": (32, 18, 20), "iq4_xs": (256, 136, 23), "tq1_0": (256, 54, 34), "tq2_0": (256, 66, 35),
    "mxfp4": (32, 17, 39), "nvfp4": (64, 36, 40), "q1_0": (128, 18, 41), "q2_0": (64, 18, 42),
    # Our own: an activation row quantized in groups of 32, each with an f32 scale and an f32 sum; a value is one
    # int8 code, or two of which the second counts 256ths of the first.
    "a8": (32, 40, None), "a16": (32, 72, None),
}  # fmt: skip

DTYPES: Registry[DType] = Registry(
    DType, "element type", things=[DType(name, *row) for name, row in _TABLE.items()], check=_unique
)


def dtype(name: str | DType) -> DType:
    """The `DType` called `name`."""
    if isinstance(name, DType):
        return name
    found = DTYPES.get(name)
    if found is None:
        raise GraphError(f"unknown element type {name!r}", remedy=f"one of: {DTYPES.names()}")
    return found


@dataclass(frozen=True)
class TensorType:
    """The type of a tensor value. Prints as `f16[T,4096]`. Blocks of a quantized type lie along the last axis."""

    shape: tuple[Dim, ...]
    dtype: DType

    def __post_init__(self) -> None:
        for d in self.shape:
            if isinstance(d, int):
                if d < 0:
                    raise GraphError(f"a dimension is negative in {self}")
            elif not isinstance(d, Sym) and not hasattr(d, "__index__"):  # torch's own symbols have that
                raise GraphError(f"the dimension {d!r} of {self} is no whole number and no Sym")
        last = self.shape[-1] if self.shape else 1
        if self.dtype.quantized and (not isinstance(last, int) or last % self.dtype.block):
            raise GraphError(f"the last axis of {self} does not fill whole blocks of {self.dtype.block}")

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def symbols(self) -> tuple[Sym, ...]:
        return tuple(d for d in self.shape if isinstance(d, Sym))

    def bind(self, sizes: Mapping[str, int]) -> TensorType:
        """The same type with each symbol replaced by its size."""
        return TensorType(tuple(sizes[d.name] if isinstance(d, Sym) else d for d in self.shape), self.dtype)

    def upper(self) -> TensorType:
        """The same type with each symbol replaced by its bound."""
        return TensorType(tuple(d.max if isinstance(d, Sym) else d for d in self.shape), self.dtype)

    def concrete(self) -> tuple[int, ...]:
        """The shape, all of whose dimensions must be integers."""
        out = []
        for d in self.shape:
            if isinstance(d, Sym):
                raise GraphError(f"{self} still has the unbound dimension {d}")
            out.append(d)
        return tuple(out)

    @property
    def numel(self) -> int:
        return prod(self.concrete())

    @property
    def nbytes(self) -> int:
        return self.dtype.size(self.numel)


def tensor(dt: str | DType, *shape: Dim) -> TensorType:
    """`tensor("f16", T, 4096)` is `f16[T,4096]`."""
    return TensorType(tuple(shape), dtype(dt))


STATE_KINDS = ("pages", "sequence", "step")


@dataclass(frozen=True)
class StateType(TensorType):
    """A tensor that outlives a step and is updated in place: the KV pages of a layer, or a recurrence's state.

    `kind` "pages": axis 1 counts pages, of which a sequence has as many as its tokens need. `kind` "sequence": axis 0
    counts slots, of which a sequence has one, zero when it begins. `kind` "step": what is left for the next step alone.
    A value of this type is used linearly: an op that writes it consumes it and returns its next version.
    """

    kind: str = "pages"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in STATE_KINDS:
            raise GraphError(f"no state is of the kind {self.kind!r}", remedy=f"one of: {', '.join(STATE_KINDS)}")

    def __str__(self) -> str:
        kind = "" if self.kind == "pages" else f"{self.kind} "
        return f"state {kind}{self.dtype}[{','.join(map(str, self.shape))}]"

    def bind(self, sizes: Mapping[str, int]) -> StateType:
        return StateType(super().bind(sizes).shape, self.dtype, self.kind)

    def upper(self) -> StateType:
        return StateType(super().upper().shape, self.dtype, self.kind)
