"""Integer clamp: the exact result kept within the range of the destination, where the pseudocode wraps it.

The pseudocode leaves the clamp bit out. With it, sums and products are taken exactly (in 64 bits, which hold them all)
and a store into D0, or into a part of a packed result, saturates.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from forge.amdgcn.pseudocode.syntax import Assign, Cast, Expr, Invocation, Name, Slice, Statement, Type, View

Node = TypeVar("Node")
_EXACT = Type("i", 64)


def clamped(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """The statements with every integer operand widened and every typed integer store saturating."""
    return _rewritten(body)


def _integer(of: Expr) -> bool:
    return isinstance(of, View) and of.type.kind in ("u", "i") and 16 <= of.type.bits <= 32


def _rewritten(node: Node) -> Node:
    if isinstance(node, tuple):
        return type(node)(_rewritten(item) for item in node)
    if isinstance(node, Assign):
        value = _rewritten(node.value)
        first = node.targets[0]
        if isinstance(first, View) and _integer(first) and isinstance(first.of, Name | Slice):
            value = Invocation(f"i64_to_{first.type.kind}{first.type.bits}", (Cast(value, _EXACT),))
        return Assign(node.targets, value)  # type: ignore[return-value]
    if isinstance(node, View) and _integer(node):
        return Cast(node, _EXACT)  # type: ignore[return-value]
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return type(node)(*(_rewritten(getattr(node, field.name)) for field in dataclasses.fields(node)))
    return node
