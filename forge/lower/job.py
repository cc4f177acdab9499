"""A launch as bytes, for another process to compile: its function by name, and of tensors what a compiler sees.

Formats and Triton's functions go by their names, tensors as ones without memory, of the same type and bytes of storage.
"""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from operator import attrgetter
from typing import Any

import torch

from forge.graph.types import DTYPES
from forge.lower.launch import Launch
from forge.quant.format import QuantFormat
from forge.quant.packed import planes_of
from forge.quant.registry import format_of
from forge.target import DeviceTarget


def dumped(launch: Launch, target: DeviceTarget) -> bytes:
    """A job. Raises pickle.PicklingError for what another process does not find by its name."""
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump((target, launch.fn, launch.grid, launch.args, dict(launch.meta)))
    return file.getvalue()


def loaded(job: bytes) -> tuple[DeviceTarget, Launch]:
    target, fn, grid, args, meta = pickle.loads(job)
    return target, Launch(fn, grid, args, meta)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if value.data_ptr() % 16:
                raise pickle.PicklingError("a tensor that is not aligned has no stand-in")
            size = value.untyped_storage().size() // value.element_size()
            return _tensor, (size, value.dtype)
        if isinstance(value, QuantFormat):
            if format_of(value.dtype) is not value:
                raise pickle.PicklingError(f"the format {value.name} is not the one of that name")
            return _format, (value.name,)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            if type(value) is not planes_of(*value._fields):
                return NotImplemented
            return _planes, (value._fields, tuple(value))
        if hasattr(value, "arg_names") and hasattr(value, "fn"):  # a function of Triton's
            name = value.fn.__module__, value.fn.__qualname__
            if name[0] == "__main__" or _found(*name) is not value:
                raise pickle.PicklingError(f"{'.'.join(name)} is not found by its name")
            return _found, name
        return NotImplemented


def _found(module: str, name: str) -> Any:
    try:
        return attrgetter(name)(sys.modules.get(module) or importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise pickle.PicklingError(f"{module}.{name} is not found by its name") from error


def _tensor(size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(size, dtype=dtype, device="meta")


def _format(name: str) -> QuantFormat:
    return format_of(DTYPES[name])


def _planes(names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return planes_of(*names)(*values)
