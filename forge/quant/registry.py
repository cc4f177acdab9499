"""Which formats there are: those that the modules of this folder define. There is no list to edit."""

from __future__ import annotations

from collections.abc import Mapping

from forge.errors import UnsupportedError, UsageError
from forge.graph.types import DTYPES, DType
from forge.quant.format import QuantFormat
from forge.registry import Registry


def _typed(form: QuantFormat) -> None:
    """A format is of an element type that is known. Raises UsageError."""
    if form.name not in DTYPES:
        raise UsageError(f"format {form.name} has no element type", remedy="define its DType beside it")


FORMATS: Registry[QuantFormat] = Registry(QuantFormat, "format", package="forge.quant", check=_typed)


def formats() -> Mapping[str, QuantFormat]:
    """Every format by the name of its element type. A file that does not import is reported as itself."""
    return FORMATS


def block_types() -> tuple[str, ...]:
    """The quantized types that files hold: those of blocks."""
    return tuple(n for n, form in formats().items() if not form.plain and not form.dtype.activation)


def format_of(dtype: DType) -> QuantFormat:
    """The format of an element type. Raises UnsupportedError if no file here describes it."""
    found = formats().get(dtype.name)
    if found is None:
        raise UnsupportedError(
            f"element type {dtype} is not supported", remedy=f"use a file of one of: {FORMATS.names()}"
        )
    return found
