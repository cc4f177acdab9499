"""An op's parameters as its declaration names them, and the arguments of a call sorted by them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from forge.errors import GraphError

Exact = tuple[tuple[str, Any, Any], ...]  # name and value of each attribute, and what tells it from its equals
_SCALARS = frozenset({bool, int, float, str})


class Parameters:
    """Positional parameters are operands, `= None` marks one as optional; keyword-only ones are attributes."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.name, self.signature = fn.__name__, inspect.signature(fn)
        given = self.signature.parameters.values()
        self.operands = tuple(p.name for p in given if p.kind is p.POSITIONAL_OR_KEYWORD)
        self.attributes = tuple(p.name for p in given if p.kind is p.KEYWORD_ONLY)
        self.optional = tuple(p.name for p in given if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is None)
        self._defaults = {p.name: p.default for p in given if p.default is not p.empty}
        self._names = (*self.operands, *self.attributes)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Sort arguments into (operands, attributes) with defaults filled in. Raises GraphError.

        Lists of attributes become tuples, so that a call can be hashed. Written so that torch.compile can trace it.
        """
        values = {**self._defaults, **dict(zip(self.operands, args, strict=False)), **kwargs}
        twice = any([n in kwargs for n in self.operands[: len(args)]])
        missing = any([n not in values for n in self._names])
        if twice or missing or len(args) > len(self.operands) or len(values) > len(self._names):
            self._refuse(args, kwargs)
        attrs = {n: tuple(values[n]) if isinstance(values[n], list) else values[n] for n in self.attributes}
        return tuple([values[n] for n in self.operands]), attrs

    def _refuse(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise the GraphError of arguments that do not fit the signature."""
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise GraphError(f"{self.name}{self.signature}: {error}") from None


def exact(op: str, attrs: Mapping[str, Any]) -> Exact:
    """Attributes as a key, which tells apart what is equal and not the same: 0.0 and -0.0, or 1, 1.0 and True.

    Raises GraphError, naming the op, for an attribute that cannot be hashed.
    """
    key = tuple([(n, v, type(v) if type(v) in _SCALARS and v else repr(v)) for n, v in attrs.items()])
    try:
        hash(key)
    except TypeError as error:
        raise GraphError(
            f"{op}: the attributes {dict(attrs)!r:.200} are no key of a call: {error}",
            remedy="numbers, texts, and lists or tuples of them",
        ) from None
    return key


def same(a: Any, b: Any) -> bool:
    """Whether two values of an attribute are the same, as `exact` tells them apart."""
    return bool(a == b) and repr(a) == repr(b)
