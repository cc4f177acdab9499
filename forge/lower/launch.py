"""What a kernel's build function returns: `Launch`es of Triton functions, and plain callables.

Building is done once per set of shapes; the tasks it gives hold every argument and can be run many times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from forge.errors import GraphError
from forge.target import DeviceTarget

OPTIONS = ("num_warps", "num_stages", "waves_per_eu", "matrix_instr_nonkdim", "kpack")
HIP_ONLY = ("waves_per_eu", "matrix_instr_nonkdim", "kpack")


@dataclass(frozen=True)
class Launch:
    """One launch of a Triton function: `fn[grid](*args, **meta)`, where `meta` holds constexprs and options."""

    fn: Any
    grid: tuple[int, int, int]
    args: tuple[Any, ...]
    meta: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.grid[0] > 2**31 - 1 or max(self.grid[1:]) > 65535 or min(self.grid) < 0:
            raise GraphError(f"{self.fn.__name__}: the grid {self.grid} is beyond what a device launches")

    @property
    def empty(self) -> bool:
        """Whether it is of no program at all, which no device launches."""
        return 0 in self.grid

    def __call__(self) -> Any:
        return self.fn[self.grid](*self.args, **self.meta)

    def arguments(self) -> list[Any]:
        """All arguments in the order of the function's parameters, constexprs included."""
        given = dict(zip(self.fn.arg_names, self.args, strict=False)) | dict(self.meta)
        return [given[name] for name in self.fn.arg_names]

    def leaves(self) -> dict[str, Any]:
        """The arguments by name, tuples taken apart (see `leaves`)."""
        given = zip(self.fn.arg_names, self.arguments(), strict=True)
        return {path: value for name, argument in given for path, value in leaves(name, argument)}


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(path, value) of an argument, or of its signature; a tuple's elements are `name.q` or, without names, `name.0`.

    The compiled kernel takes each of them as a parameter of its own, in this order.
    """
    if not isinstance(value, tuple):
        yield name, value
        return
    for part, element in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
        yield from leaves(f"{name}.{part}", element)


Task = Launch | Callable[[], Any]


@dataclass(frozen=True)
class Site:
    """Where a kernel is built: the target, the configuration, and the scratch tensors it asked for."""

    target: DeviceTarget
    config: Mapping[str, Any]
    work: tuple[Any, ...] = field(default=())

    def __getitem__(self, name: str) -> Any:
        return self.config[name]

    def launch(self, fn: Any, grid: tuple[int, ...], *args: Any, **constexprs: Any) -> Launch:
        """A launch of `fn`. The configuration's entries that `fn` has as parameters are passed to it as well."""
        meta = {k: v for k, v in self.config.items() if k in fn.arg_names} | constexprs
        meta |= {k: v for k, v in self.config.items() if k in OPTIONS and self._takes(k)}
        if "DEPENDENT" in fn.arg_names:
            meta["DEPENDENT"] = self.target.dependent_launch
            if self.target.dependent_launch:
                meta["launch_pdl"] = True
        meta["enable_fp_fusion"] = True  # said outright, as Triton's own default differs between its versions
        g = (*grid, 1, 1)
        return Launch(fn, (g[0], g[1], g[2]), args, meta)

    def dense(self, op: str, **operands: Any) -> None:
        """Raise GraphError for an operand with gaps between its elements, of which a kernel of `op` would not know."""
        for name, operand in operands.items():
            if not operand.is_contiguous():
                shown = f"{tuple(operand.shape)} in strides of {operand.stride()}"
                raise GraphError(f"{op}: the kernel takes {name} dense, not {shown}", remedy=f"{name}.contiguous()")

    def _takes(self, option: str) -> bool:
        return option not in HIP_ONLY or self.target.backend == "hip"
