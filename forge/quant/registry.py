"""Which formats there are: every module of this folder that defines `FORMAT`. There is no list to edit."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from forge.errors import UnsupportedError
from forge.graph.types import DType
from forge.quant.format import QuantFormat


@cache
def formats() -> Mapping[str, QuantFormat]:
    """Every format by the name of its element type. A file that does not import is reported as itself."""
    found: dict[str, QuantFormat] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        form = getattr(importlib.import_module(f"forge.quant.{module.name}"), "FORMAT", None)
        if isinstance(form, QuantFormat):
            found[form.name] = form
    return dict(sorted(found.items()))


def format_of(dtype: DType) -> QuantFormat:
    """The format of an element type. Raises UnsupportedError if no file here describes it."""
    found = formats().get(dtype.name)
    if found is None:
        raise UnsupportedError(
            f"element type {dtype} is not supported", remedy=f"use a file of one of: {', '.join(formats())}"
        )
    return found
