"""GGUF's element types, one a file: block layout, planes, and the device functions that decode them."""

from __future__ import annotations

from forge.quant.format import QuantFormat
from forge.quant.packed import Packed
from forge.quant.registry import block_types, format_of, formats
from forge.quant.tensors import dense, dense_as, pack, quantize, random_blocks, to_dense, unpack

__all__ = [
    "Packed",
    "QuantFormat",
    "block_types",
    "dense",
    "dense_as",
    "format_of",
    "formats",
    "pack",
    "quantize",
    "random_blocks",
    "to_dense",
    "unpack",
]
