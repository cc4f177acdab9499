"""Rotary position embedding of a model: how fast each pair of a head turns, with linear and YaRN scaling.

Source: arXiv 2104.09864 (RoPE), 2309.00071 (YaRN); the fields are the parameters of ggml's `ggml_rope_ext`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from forge.errors import FileFormatError, GraphError, UnsupportedError
from forge.graph.ir import Value
from forge.graph.types import tensor
from forge.kernels.rotation import rotation
from forge.models.keys import Keys


@dataclass(frozen=True)
class Rope:
    """`pairs` "norm" (neighbours) or "neox" (halves), over the first `dims` of a head.

    `scaling` "linear" and "yarn" stretch the context by `factor`; `attn_factor` multiplies what is rotated under any
    scaling. Of YaRN: `original_context` is the context before stretching, `ext_factor` how much of the ramp counts,
    `beta_fast` and `beta_slow` the turns within the original context at which the ramp begins and ends.
    """

    pairs: str
    dims: int
    base: float
    scaling: str = "none"
    factor: float = 1.0
    original_context: int = 0
    ext_factor: float = 1.0
    attn_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def __post_init__(self) -> None:
        if self.scaling not in ("none", "linear", "yarn"):
            raise GraphError(f"RoPE scaling {self.scaling!r} is unknown", remedy="none, linear or yarn")
        if self.dims < 2 or self.dims % 2:
            raise GraphError(f"RoPE over {self.dims} elements of a head: it turns pairs")
        if self.base <= 1 or self.factor <= 0:
            raise GraphError(f"RoPE base {self.base} must be above 1 and factor {self.factor} above 0")
        if self.scaling == "yarn" and self.original_context < 1:
            raise GraphError("YaRN needs the original context")

    @property
    def turns(self) -> list[float]:
        """Turns (of 2 pi) a position for each of the dims / 2 pairs.

        The i-th turns by base^(-2i/dims) radians a position. Linear scaling divides that by `factor`. YaRN does so for
        pairs that make few turns within the original context, leaves those that make many, and ramps between: from
        the pair that makes beta_fast turns to the one that makes beta_slow.
        """
        plain = [self.base ** (-2 * i / self.dims) / (2 * math.pi) for i in range(self.dims // 2)]
        if self.scaling == "none":
            return plain
        if self.scaling == "linear":
            return [f / self.factor for f in plain]
        low = max(0, math.floor(self._pair_with(self.beta_fast)))
        high = min(self.dims - 1, math.ceil(self._pair_with(self.beta_slow)))
        ramp = [min(1.0, max(0.0, (i - low) / max(0.001, high - low))) for i in range(self.dims // 2)]
        kept = [self.ext_factor * (1 - r) for r in ramp]
        return [f / self.factor * (1 - k) + f * k for f, k in zip(plain, kept, strict=True)]

    def _pair_with(self, turns: float) -> float:
        """The pair, with a fraction, that makes so many turns within the original context."""
        times = math.log(self.original_context) - math.log(turns) - math.log(2 * math.pi)
        return self.dims * times / (2 * math.log(self.base))

    @property
    def magnitude(self) -> float:
        """What rotated pairs are multiplied by; YaRN makes attention sharper as the context is stretched further."""
        stretched = self.scaling == "yarn" and self.ext_factor
        return self.attn_factor * (1 + 0.1 * math.log(self.factor) if stretched else 1)

    def rotation(self, positions: Value, factors: Value | None = None, name: str = "rope.turns") -> Value:
        """The rotations f32[T,dims/2,2] of a step's positions: one node, which all layers share."""
        table = positions.node.graph.constant(name, tensor("f64", self.dims // 2), self.turns)
        made: Value = rotation(positions, table, factors, magnitude=self.magnitude)
        return made


def read_rope(keys: Keys, pairs: str, head_width: int) -> Rope:
    """Rotary embedding and its scaling by their keys: none, linear or YaRN; llama.cpp's defaults.

    Without a type a factor is linear's. With the type "none" nothing is scaled, whatever the factor. A factor or an
    original context of 0 is not set.
    """
    dims = keys.size("rope.dimension_count", head_width)
    if dims % 2 or dims > head_width:
        raise FileFormatError(f"rope.dimension_count is {dims} in heads of {head_width}")
    scaling = keys.get("rope.scaling.type", str, "linear")
    old = keys.get("rope.scale_linear", float, 0.0)
    unset = keys.get("rope.scaling.factor", float, old) == 0
    factor = 1.0 if unset else keys.positive("rope.scaling.factor", keys.set_or("rope.scale_linear", 1.0))
    if scaling == "none" or (scaling == "linear" and factor == 1.0):
        scaling, factor = "none", 1.0
    if scaling not in ("none", "linear", "yarn"):
        raise UnsupportedError(f"RoPE scaling {scaling!r} in {keys.architecture}", remedy="none, linear or yarn")
    attn_factor = keys.positive("rope.scaling.yarn_attn_factor", 1.0)
    return Rope(
        pairs=pairs,
        dims=dims,
        base=keys.positive("rope.freq_base", 10000.0, above=1),
        scaling=scaling,
        factor=factor,
        original_context=keys.size_set_or("rope.scaling.original_context_length", keys.size("context_length")),
        ext_factor=keys.share("rope.scaling.yarn_ext_factor", 1.0),
        attn_factor=keys.positive("rope.scaling.attn_factor", attn_factor),
        beta_fast=keys.positive("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=keys.positive("rope.scaling.yarn_beta_slow", 1.0),
    )
