"""What is used of Triton beyond its public interface, and of torch to launch with it: all of it stands in this file.

Works with Triton 3.6 to 3.9. Nothing here knows of ops, plans or devices of ours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

Grid = tuple[int, int, int]


def interpreting() -> bool:
    """Whether Triton was told, when it was imported, to run kernels in Python."""
    import triton

    return bool(triton.knobs.runtime.interpret)


def compiled(fn: Any, grid: Grid, args: Sequence[Any], meta: Mapping[str, Any]) -> Any:
    """A Triton function compiled for these arguments and the driver's device, by the way that a launch goes.

    Raises whatever the compiler and the driver raise.
    """
    return fn.run(*args, grid=grid, warmup=True, **meta)


def launcher(
    fn: Any, grid: Grid, args: Sequence[Any], meta: Mapping[str, Any], arguments: Sequence[Any], device: int
) -> Callable[[], None]:
    """A function that launches `fn` on the current stream of GPU number `device`, with the least work.

    `fn` is compiled now. `arguments` are all of its parameters, constexprs included; tuples stay tuples. That GPU must
    be the thread's current one, now and when the function is called.
    """
    import torch

    kernel = compiled(fn, grid, args, meta)
    run, function, packed = kernel.run, kernel.function, kernel.packed_metadata
    stream_of = torch._C._cuda_getCurrentRawStream  # the public way costs ten times as much, at each launch
    x, y, z = grid
    fixed = tuple(arguments)

    def launch() -> None:
        run(x, y, z, stream_of(device), function, packed, None, None, None, *fixed)

    return launch


@dataclass(frozen=True)
class Compiled:
    """What a kernel compiled for an AMD GPU says of itself. `signature` has Triton's type of each parameter."""

    name: str
    assembly: str
    binary: bytes
    lds: int
    warps: int
    signature: Mapping[str, Any]


def amd_code(kernel: Any) -> Compiled:
    """The code of what `compiled` gave for an AMD GPU."""
    return Compiled(
        name=kernel.metadata.name,
        assembly=kernel.asm["amdgcn"],
        binary=kernel.asm["hsaco"],
        lds=kernel.metadata.shared,
        warps=kernel.metadata.num_warps,
        signature=kernel.src.signature,
    )


def descriptor_types(type: str) -> tuple[str, ...]:
    """Triton's types of the arguments that an AMD kernel takes for a host's tensor descriptor of that type, in order.

    Raises ImportError before Triton 3.9, which passes them otherwise.
    """
    from triton.backends.driver import expand_signature

    return tuple(expand_signature([type], None, "tensordesc"))


def descriptor_parts(value: Any) -> list[Any] | None:
    """A host tensor descriptor as those arguments; None for any other value."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    if not isinstance(value, TensorDescriptor):
        return None
    from triton.backends.driver import decompose_descriptor

    return list(decompose_descriptor(value))


class _AbsentDriver:
    """The part of Triton's driver interface that compiling needs, for a device that is not there."""

    def __init__(self, backend: str, arch: str, wave: int) -> None:
        self._backend, self._arch, self._wave = backend, arch, wave

    def get_current_device(self) -> str:
        return self._arch  # Triton keys its caches by device: one key an architecture

    def get_current_stream(self, device: str) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        arch: str | int = int(self._arch.removeprefix("sm_")) if self._backend == "cuda" else self._arch
        return GPUTarget(self._backend, arch, self._wave)


_DRIVER = threading.Lock()  # Triton has one active driver a process


@contextmanager
def absent_driver(backend: str, arch: str, wave: int) -> Iterator[None]:
    """While this lasts, Triton compiles for that device and launches nothing; other threads that want the same wait.

    Not for use beside threads that launch kernels, nor within itself.
    """
    from triton.runtime import driver

    with _DRIVER:
        before = driver._active
        try:
            driver.set_active(_AbsentDriver(backend, arch, wave))
            yield
        finally:
            driver._active = before


class _Asking:
    """What Triton hands a kernel to that it has not in memory, in place of compiling it."""

    def __init__(self, before: Callable[[str], None]) -> None:
        self._before = before

    def submit(self, key: str, compile: Callable[[], Any], finish: Callable[[Any], None], *cleanup: Any) -> Any:
        self._before(sha256(key.encode()).hexdigest())
        kernel = compile()
        finish(kernel)
        return kernel


@contextmanager
def asking(before: Callable[[str], None]) -> Iterator[None]:
    """While this lasts, `before` is called in this thread with the key of a kernel that is not in the process's memory.

    Then the kernel is taken from Triton's files, or compiled. What `before` raises, the launch raises.
    """
    from triton.runtime import _async_compile

    token = _async_compile.active_mode.set(cast(Any, _Asking(before)))
    try:
        yield
    finally:
        _async_compile.active_mode.reset(token)


def filed(key: str) -> bool:
    """Whether Triton's files have the kernel of this key."""
    from triton.runtime.cache import get_cache_manager

    folder = getattr(get_cache_manager(key), "cache_dir", None)
    return folder is not None and any(Path(folder).glob("__grp__*.json"))
