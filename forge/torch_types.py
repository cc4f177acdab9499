"""The element types of graphs as torch names them. The one table of them; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NAMES: Mapping[str, str] = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64", "i32": "int32",
    "i16": "int16", "i8": "int8", "u8": "uint8", "bool": "bool", "e4m3": "float8_e4m3fn",
}  # fmt: skip
_OURS = {theirs: ours for ours, theirs in NAMES.items()}


def torch_type(name: str) -> torch.dtype:
    """The torch type of an element type that is not quantized."""
    import torch

    found: torch.dtype = getattr(torch, NAMES[name])
    return found


def type_name(dtype: object) -> str | None:
    """The element type's name of a torch or numpy type, or None where no graph has it."""
    return _OURS.get(str(dtype).removeprefix("torch."))
