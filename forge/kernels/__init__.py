"""The ops, one a file: contract, oracle, kernels, tuning space, cost and cases.

`load()` finds every op by walking this folder; there is no list to edit. `forge.kernels.rms_norm` is the op, to be
called on tensors or graph values, though its file has the same name; what else that file defines is imported from it:
`from forge.kernels.rms_norm import ...`. `dir(forge.kernels)` lists the ops, registered ones too.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from forge.errors import UsageError
from forge.graph.op import Kernel, Op
from forge.graph.patterns import rules_of
from forge.registry import Registry


class OpRegistry(Registry[Op]):
    """The ops by name. A module may add kernels to ops of others, too."""

    def mark(self) -> Callable[[], None]:
        undo, kernels = super().mark(), {name: dict(op.kernels) for name, op in self.items()}

        def undo_all() -> None:
            undo()
            for name, declared in kernels.items():
                self[name].kernels = declared

        return undo_all

    def take(self, module: ModuleType) -> int:
        return super().take(module) + sum(isinstance(value, Kernel) for value in vars(module).values())


def _check(op: Op) -> None:
    """An op is reached as an attribute of this package; one that is declared by `equals` states rules of fusion."""
    there = vars(sys.modules[__name__]).get(op.name, op)
    if op.name.startswith("_") or not isinstance(there, Op):
        raise UsageError(f"op {op.name} cannot be reached as forge.kernels.{op.name}", remedy="give it another name")
    if op.equals is not None:
        rules_of(op)


OPS = OpRegistry(Op, "op", package=__name__, check=_check)


def load() -> Mapping[str, Op]:
    """Every op by name. A file that does not import is reported as itself, not as a missing op."""
    return OPS


class _Package(ModuleType):
    """This package, whose attributes are ops where a submodule has an op's name."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Python sets a submodule as an attribute when it has been imported: the op of that name takes its place."""
        found = vars(value).get(name) if isinstance(value, ModuleType) else None
        super().__setattr__(name, found if isinstance(found, Op) else value)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            if importlib.util.find_spec(f"{__name__}.{name}") is not None:
                return vars(self).get(name, importlib.import_module(f"{__name__}.{name}"))
            if name in OPS:
                return OPS[name]
        raise AttributeError(f"no op is called {name!r}; forge.kernels has {OPS.names()}")

    def __dir__(self) -> list[str]:
        return sorted({"OPS", "load", *OPS})


sys.modules[__name__].__class__ = _Package
