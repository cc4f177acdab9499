"""The Jinja environment of chat templates: sandboxed, and with a budget of steps and of characters.

Jinja's sandbox bounds `range` to 100,000 items but not what loops within loops cost. Here the parsed template is
rewritten so that each pass of a loop and each call of a macro counts a step of the render it belongs to, and a value
that an operator builds may not outgrow a prompt. Filters may still build larger values than their inputs.
"""

from __future__ import annotations

import json
from collections.abc import Sized
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_STEPS = 200_000  # about a second; a chat of ten thousand messages takes some tens of thousands
MAX_LENGTH = 1 << 24  # characters or items of any one value that a template builds
MAX_BITS = 4096  # of a power

STEPS = "steps taken"  # not an identifier, so no template can name it


class Budget(Extension):
    """Counts the steps of loops and macros. The count lives in the context of its render."""

    def count(self, context: Context) -> str:
        taken = context.parent.get(STEPS)
        if taken is not None:
            taken[0] += 1
            if taken[0] > MAX_STEPS:
                raise SecurityError(f"the template ran for more than {MAX_STEPS} steps")
        return ""

    def join(self, parts: list[Any]) -> str:
        """The operator ~."""
        return str(bounded("".join(map(str, parts))))


class Accounting(NodeTransformer):
    """Rewrites a parsed template so that loops, macros and the operator ~ go through the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def _counted(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        count = self._budget.call_method("count", [nodes.ContextReference()])
        node.body.insert(0, nodes.ExprStmt(count, lineno=node.lineno))
        return node

    visit_For = visit_Macro = visit_CallBlock = _counted

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return self._budget.call_method("join", [nodes.List(node.nodes)], lineno=node.lineno)


class Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's words for training; here it only renders them."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Extension

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with the budget. Thread-safe: a render's state is its own."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        budget = self.extensions[Budget.identifier]
        assert isinstance(budget, Budget)
        return super()._generate(Accounting(budget).visit(source), name, filename, defer_init)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for items, times in ((left, right), (right, left)):
                if isinstance(items, (str, bytes, list, tuple)) and isinstance(times, int):
                    _check_length(len(items) * times)
        whole = isinstance(left, int) and isinstance(right, int)
        if operator == "**" and whole and left.bit_length() * right > MAX_BITS:
            raise SecurityError("the template takes a power that is too large")
        return bounded(super().call_binop(context, operator, left, right))


def bounded(value: Any) -> Any:
    """`value`, unless it is longer than any prompt."""
    if isinstance(value, Sized):
        _check_length(len(value))
    return value


def _check_length(length: int) -> None:
    if length > MAX_LENGTH:
        raise SecurityError(f"the template builds a value of {length} characters; the limit is {MAX_LENGTH}")


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on it: no HTML escapes, keys in their own order."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def chat_environment() -> ChatEnvironment:
    environment = ChatEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Budget, Generation, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    return environment
