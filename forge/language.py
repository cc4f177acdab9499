"""Triton as the kernels see it: `tl`, `jit`, and whether kernels are interpreted.

Triton is not a hard dependency: a ROCm build of torch brings its own, and a CPU needs none. Where it is missing the
op files still import, and the first launch is one clear error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from hashlib import sha256
from typing import Any

from forge.errors import MissingDependencyError
from forge.triton_internals import interpreting

__all__ = [
    "INTERPRETED",
    "DeviceObject",
    "MissingTriton",
    "cdiv",
    "interpreted",
    "jit",
    "next_power_of_2",
    "require_triton",
    "tl",
]

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError as error:
    if error.name != "triton":
        raise
    triton = None
    tl = None


class MissingTriton:
    """Stands for a Triton function where Triton is not installed; using it says so."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.name = fn.__name__

    def __getattr__(self, attribute: str) -> Any:
        require_triton(f"the kernel {self.__dict__['name']}")


def require_triton(purpose: str) -> None:
    """Raise MissingDependencyError unless Triton can be imported."""
    if triton is None:
        raise MissingDependencyError(
            f"{purpose} needs Triton, which is not installed",
            remedy="on AMD: the triton that comes with torch's ROCm build; otherwise: pip install triton",
        )


def jit(fn: Callable[..., Any]) -> Any:
    """`triton.jit`, or a stand-in that explains itself where Triton is missing."""
    return MissingTriton(fn) if triton is None else triton.jit(fn)


class DeviceObject:
    """A constexpr of a kernel that holds numbers and device functions; `seen` are those that a body can read.

    Triton keys compiled kernels by a constexpr's `cache_key` and by its repr, and names functions by the latter. So
    both stand for all that is seen, and for the sources of the device functions and of what these call.
    """

    def seen(self) -> tuple[Any, ...]:
        raise NotImplementedError

    @cached_property
    def cache_key(self) -> str:
        return sha256(repr([getattr(value, "cache_key", value) for value in self.seen()]).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"{type(self).__name__}_{self.cache_key[:16]}"


def interpreted() -> bool:
    """Whether TRITON_INTERPRET=1 was set when Triton was imported: kernels then run in Python, on CPU tensors."""
    return triton is not None and interpreting()


def cdiv(a: int, b: int) -> int:
    """ceil(a / b)"""
    return -(-a // b)


def next_power_of_2(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()


INTERPRETED = None if tl is None else tl.constexpr(interpreted())  # what bodies may ask


@jit
def dot(a, b, acc):
    """acc + a[M,K] b[K,N], accumulated in fp32; fp32 operands are not rounded."""
    if INTERPRETED:  # which keeps bfloat16 as bits and multiplies those as integers
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="ieee")
