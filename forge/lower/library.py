"""Ops as PyTorch's custom operators `torch.ops.forge.<op>`, each registered when it is first needed.

An operator takes the op's operands as plain tensors and its attributes by name. What is computed is the eager call; the
shapes under torch.compile are those of the op's type rule. An op that writes a state operand is registered as mutating
it, and gives only what it makes anew. Views have no operator: their reference is torch, which is traced as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch

from forge.errors import UnsupportedError
from forge.graph.op import Op
from forge.graph.types import TensorType
from forge.kernels import load
from forge.lower import eager
from forge.lower.values import empty, type_of

_SCHEMA: Mapping[type | None, str] = {bool: "bool", int: "SymInt", float: "float", str: "str"}


class Overloads(ModuleType):
    """The operators by the keys of their ops: attributes of a module, which torch.compile sees through."""

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):  # as Python asks of any module, `__file__` for one
            raise AttributeError(f"{self.__name__} has no {key}")
        op = next((op for op in load().values() if op.key == key), None)
        if op is None:
            raise UnsupportedError(
                f"{key} has no PyTorch operator: it is not registered", remedy="forge.register the file that defines it"
            )
        made = register(op)
        setattr(self, key, made)
        return made


overloads = Overloads("forge.lower.library.overloads")


def covered(op: Op) -> bool:
    """Whether an op has an operator: it is no view, and some case of it takes and gives plain tensors."""
    return not op.view and any(_plain((*c.types, *op.infer(c.types, c.attrs))) for c in op.cases)


def _plain(types: Sequence[TensorType | None]) -> bool:
    return not any(t is not None and t.dtype.quantized for t in types)


def register(op: Op) -> Any:
    """The operator of an op, registered now. Raises UnsupportedError for an op that can have none."""
    if not covered(op):
        raise UnsupportedError(f"{op.name} has no PyTorch operator: it takes or gives no plain tensors in any case")

    def compute(*args: Any, **given: Any) -> Any:  # PyTorch leaves out what equals a default
        return _fresh(op, eager.run(op, *op.bind(args, given)))

    def shapes(*args: Any, **given: Any) -> Any:
        operands, attrs = op.bind(args, given)
        results = op.infer(tuple(type_of(o) for o in operands), attrs)
        device = next(o.device for o in operands if o is not None)
        made = tuple(empty(t, device) for t in (results[1:] if op.writes else results))
        return made[0] if len(made) == 1 else made or None

    mutates = [op.writes] if op.writes else []
    custom = torch.library.custom_op(f"forge::{op.name}", compute, mutates_args=mutates, schema=schema(op))
    custom.register_fake(shapes)
    return getattr(torch.ops.forge, op.name).default


def schema(op: Op) -> str:
    """The operator's signature, as PyTorch writes it."""
    operands = []
    for name in op.operands:
        kind = "Tensor(a!)" if name == op.writes else "Tensor"
        operands.append(f"{kind}? {name}=None" if name in op.optional else f"{kind} {name}")
    attributes = [_attribute(op, name) for name in op.attributes]
    case = op.cases[0]
    count = len(op.infer(case.types, case.attrs)) - bool(op.writes)
    results = "Tensor" if count == 1 else f"({', '.join(['Tensor'] * count)})"
    return f"({', '.join([*operands, *(['*', *attributes] if attributes else [])])}) -> {results}"


def _attribute(op: Op, name: str) -> str:
    default = op.signature.parameters[name].default
    required = default is inspect.Parameter.empty
    given = [case.attrs[name] for case in op.cases if name in case.attrs] + ([] if required else [default])
    kinds = {type(value) for value in given}
    kind = float if kinds == {int, float} else kinds.pop() if len(kinds) == 1 else None
    if kind not in _SCHEMA:
        raise UnsupportedError(f"{op.name} has no PyTorch operator: {name} is no one of bool, int, float and str")
    return f"{_SCHEMA[kind]} {name}" + ("" if required else f"={_shown(default)}")


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _fresh(op: Op, results: Any) -> Any:
    """Without the state that was written, which the caller has."""
    if not op.writes:
        return results
    rest = results[1:] if isinstance(results, tuple) else ()
    return rest[0] if len(rest) == 1 else rest or None
