"""A model's metadata, read by an architecture: every key is checked, and each that nobody reads is an error.

Source of the names and defaults: the GGUF specification (`docs/gguf.md` of ggml) and llama.cpp's reading of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from forge.errors import FileFormatError, UnsupportedError

T = TypeVar("T", int, float, bool, str)

# Keys that describe a model but do not enter its mathematics as we compute it, whatever they hold. How many tokens a
# model knows is what the rows of its embedding say, and not `vocab_size`.
DESCRIPTIVE = ("vocab_size", "rope.scaling.finetuned", "tensor_data_layout", "block_count_total", "feed_forward_type")

# Keys of some families, with the value at which they do nothing: of its type, but an int may stand for a float. An
# architecture that knows one reads it.
NEUTRAL: Mapping[str, tuple[object, str]] = {
    "attention.causal": (True, "attention that is not causal"),
    "attention.clamp_kqv": (0.0, "clamping of q, k and v"),
    "attention.max_alibi_bias": (0.0, "ALiBi"),
    "attn_logit_softcapping": (0.0, "soft-capped attention"),
    "final_logit_softcapping": (0.0, "soft-capped logits"),
    "logit_scale": (1.0, "scaled logits"),
    "residual_scale": (1.0, "a scaled residual"),
    "embedding_scale": (1.0, "scaled embeddings"),
    "use_parallel_residual": (False, "a parallel residual"),
    "pooling_type": (0, "pooling"),
    "expert_count": (0, "a mixture of experts"),
    "expert_used_count": (0, "a mixture of experts"),
}


class Size(int):
    """A count that remembers which keys it was read from, as do its products and quotients with counts.

    So an error about a tensor's shape can say what makes the shape that was expected.
    """

    sources: tuple[str, ...]

    def __new__(cls, value: int, *sources: str) -> Size:
        made = super().__new__(cls, value)
        made.sources = tuple(dict.fromkeys(sources))
        return made

    def __mul__(self, other: int) -> Size:
        if not isinstance(other, int):
            return NotImplemented
        return Size(int(self) * int(other), *self.sources, *sources_of(other))

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> Size:
        if not isinstance(other, int):
            return NotImplemented
        return Size(int(self) // int(other), *self.sources, *sources_of(other))


def sources_of(*counts: int) -> tuple[str, ...]:
    """The keys that these counts were read from, each once."""
    return tuple(dict.fromkeys(s for c in counts if isinstance(c, Size) for s in c.sources))


class Keys:
    """The metadata keys `<architecture>.*`. Not thread-safe: one is made for each model that is read."""

    def __init__(self, architecture: str, metadata: Mapping[str, Any]) -> None:
        self.architecture = architecture
        self._metadata = metadata
        self._read: set[str] = set()

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of `<architecture>.<key>`; without a default the key is required. Raises FileFormatError."""
        value = self._find(key)
        if value is None and default is None:
            raise FileFormatError(f"the metadata key {self._full(key)} is missing", remedy="convert the model again")
        if value is None and default is not None:
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self._wrong(key, value, f"a {kind.__name__} must stand")
        return value

    def size(self, key: str, default: int | None = None) -> Size:
        """A count of at least one, and small enough to be one."""
        value = self.get(key, int, default)
        if not 1 <= value <= 1 << 24:
            raise self._wrong(key, value, "a size of a model must stand")
        return value if isinstance(value, Size) else Size(value, self._full(key))

    def window(self, key: str = "attention.sliding_window") -> int:
        """How many last keys a query sees; 0, and no key, is all of them."""
        value = self.get(key, int, 0)
        if value < 0:
            raise self._wrong(key, value, "a count must stand")
        return value

    def positive(self, key: str, default: float | None = None, above: int = 0) -> float:
        """A number above 0, or another bound, and finite."""
        value = self.get(key, float, default)
        if not above < value < float("inf"):
            raise self._wrong(key, value, f"a number above {above} must stand")
        return value

    def set_or(self, key: str, default: float) -> float:
        """A number above 0, and finite; `default` where it is 0, which says that it is not set."""
        return self.positive(key, default) if self.get(key, float, default) else default

    def size_set_or(self, key: str, default: Size) -> Size:
        """A count of at least one; `default` where it is 0, which says that it is not set."""
        return self.size(key, default) if self.get(key, int, default) else default

    def share(self, key: str, default: float) -> float:
        """A number of 0 to 1."""
        value = self.get(key, float, default)
        if not 0 <= value <= 1:
            raise self._wrong(key, value, "a number of 0 to 1 must stand")
        return value

    def epsilon(self, key: str = "attention.layer_norm_rms_epsilon") -> float:
        """What a norm adds to a mean square: a number above 0 and, as it is to be small, below 1."""
        value = self.positive(key)
        if value >= 1:
            raise self._wrong(key, value, "a number below 1 must stand")
        return value

    def marks(self, key: str, layers: int, period: int) -> tuple[bool, ...]:
        """A truth for each layer: an array of them, or a number n for all layers but each n-th. No key is `period`."""
        value = self._find(key)
        if value is None:
            value = period
        if type(value) is int and value > 0:
            return tuple(i % value < value - 1 for i in range(layers))
        if not isinstance(value, np.ndarray) or value.dtype != bool or value.shape != (layers,):
            raise self._wrong(key, value, f"a number above 0 must stand, or a truth for each of {layers} layers")
        return tuple(value.tolist())

    def finish(self) -> None:
        """Raise UnsupportedError if a key of the namespace was not read and changes the mathematics, or might."""
        prefix = f"{self.architecture}."
        left = [k.removeprefix(prefix) for k in self._metadata if k.startswith(prefix) and k not in self._read]
        for key in left:
            neutral, what = NEUTRAL.get(key, (None, ""))
            value = self._metadata[prefix + key]
            kinds = (float, int) if type(neutral) is float else (type(neutral),)
            if what and not (type(value) in kinds and value == neutral):
                raise UnsupportedError(
                    f"{prefix}{key} = {value!r:.80}: {what} is not supported for {self.architecture}"
                )
        unknown = [prefix + k for k in left if k not in NEUTRAL and k not in DESCRIPTIVE]
        if unknown:
            raise UnsupportedError(
                f"the model has keys that Forge does not know, and so could compute wrongly: {', '.join(unknown)}",
                remedy=f"teach forge/models/{self.architecture}.py what they mean",
            )

    def _find(self, key: str) -> Any:
        """The value, or None; either way the key counts as read."""
        self._read.add(self._full(key))
        return self._metadata.get(self._full(key))

    def _full(self, key: str) -> str:
        return f"{self.architecture}.{key}"

    def _wrong(self, key: str, value: Any, where: str) -> FileFormatError:
        return FileFormatError(f"the metadata key {self._full(key)} holds {value!r:.80}, where {where}")
